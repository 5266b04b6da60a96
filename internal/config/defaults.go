package config

import (
	"cmp"
	"log/slog"
	"path/filepath"
	"reflect"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// defaultHealthCheck finds a dead address within half a minute where no client
// comes, and leaves an address that restarts the time to.
var defaultHealthCheck = HealthCheck{Interval: 10 * time.Second, Timeout: 5 * time.Second, Rise: 2, Fall: 3}

// defaults is the Config of a file that sets nothing. docs/configuration.md
// and config.example.yaml repeat it.
func defaults() *Config {
	return &Config{
		Certificates: Certificates{Cache: 4096, Rescan: time.Minute},
		// The options that depend on the profile are filled in by complete.
		TLS: TLS{
			UnknownSNI:       UnknownSNIFallback,
			Stapling:         StaplingAuto,
			ClientAuth:       ClientAuth{Mode: tlsopts.ClientAuthNone},
			SessionTickets:   SessionTickets{Rotate: 12 * time.Hour, Lifetime: 24 * time.Hour},
			HandshakeTimeout: 30 * time.Second,
		},
		Limits: Limits{
			Connections:          20000,
			ConnectionsPerClient: 200,
			HandshakeRate:        50,
			ConcurrentHandshakes: 256,
			PreTLSCommands:       100,
			PreTLSErrors:         20,
		},
		Timeouts: Timeouts{
			PreTLSIdle: 5 * time.Minute,
			RelayIdle:  11 * time.Minute, // above minRelayIdle
			Connect:    10 * time.Second,
			Greeting:   5 * time.Minute, // RFC 5321 section 4.5.3.2.1
			HalfClose:  30 * time.Second,
			Drain:      2 * time.Minute,
		},
		Log:     Log{Level: slog.LevelInfo, Format: "text"},
		Admin:   Admin{Address: "127.0.0.1:9465"},
		Process: Process{Landlock: true},
	}
}

// complete fills in what depends on other keys.
func (s *source) complete(cfg *Config) {
	s.resolve(&cfg.Certificates.Directory)
	s.completeTLS(cfg)
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		if l.Mode == ModeSTARTTLS {
			l.STARTTLS = cmp.Or(l.STARTTLS, defaultSTARTTLS(l.Address))
		}
	}
	if len(cfg.Backends) == 1 {
		for name := range cfg.Backends {
			s.nameTheOnly(name, cfg)
		}
	}
	for _, b := range cfg.Backends {
		s.completeBackend(b)
		b.Balance = cmp.Or(b.Balance, LeastConnections)
		s.inherit(reflect.ValueOf(&b.HealthCheck).Elem(), reflect.ValueOf(&defaultHealthCheck).Elem())
	}
}

// nameTheOnly names the one backend wherever none is named.
func (s *source) nameTheOnly(name string, cfg *Config) {
	for _, field := range namedBackends(cfg) {
		if !s.isSet(field) {
			*field = name
		}
	}
}

// defaultSTARTTLS is optional on the port that may not require TLS.
func defaultSTARTTLS(address string) STARTTLS {
	if a, err := listenAddress(address); err == nil && a.Port() == mailExchange {
		return STARTTLSOptional
	}
	return STARTTLSRequired
}

// completeTLS gives each listener what its own tls group leaves to the file's.
func (s *source) completeTLS(cfg *Config) {
	base := cfg.TLS.Options()
	s.resolveTLS(&cfg.TLS)
	for i := range cfg.Listeners {
		t := &cfg.Listeners[i].TLS
		options := t.Options().Merge(base)
		s.resolveTLS(t)
		s.inherit(reflect.ValueOf(t).Elem(), reflect.ValueOf(&cfg.TLS).Elem())
		t.setOptions(options.WithDefaults())
	}
	cfg.TLS.setOptions(base.WithDefaults())
}

// inherit gives v what the file does not set of it from base, and the place
// of base, where a fault of it is to be mended.
func (s *source) inherit(v, base reflect.Value) {
	if v.Kind() == reflect.Struct {
		for i := range v.NumField() {
			s.inherit(v.Field(i), base.Field(i))
		}
		return
	}
	if s.isSet(v.Addr().Interface()) {
		return
	}
	v.Set(base)
	if o := s.origins[base.Addr().Interface()]; o.state == set && s.origins[v.Addr().Interface()].state == unset {
		o.state = unset
		s.origins[v.Addr().Interface()] = o
	}
}

// resolveTLS resolves the files that a tls group names.
func (s *source) resolveTLS(t *TLS) {
	for _, file := range []*string{&t.ClientAuth.CA, &t.SessionTickets.SecretFile, &t.KeyLogFile} {
		s.resolve(file)
	}
}

// resolve makes a relative path one from the folder of the configuration file.
func (s *source) resolve(path *string) {
	if *path != "" && !filepath.IsAbs(*path) {
		*path = filepath.Join(filepath.Dir(s.file), *path)
	}
}
