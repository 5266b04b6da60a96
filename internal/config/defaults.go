package config

import (
	"cmp"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// The defaults of every backend.
const (
	defaultClientInfo = ClientInfoProxyV2
	// defaultMaxHeaderBytes is the most that Exim reads; Postfix takes 536 and
	// Dovecot 1500.
	defaultMaxHeaderBytes = 232
)

var defaultProxyTLVs = []string{"ssl", "authority", "unique_id", "crc32c"}

// defaults is the Config of a file that sets nothing. docs/configuration.md
// and config.example.yaml repeat it.
func defaults() *Config {
	return &Config{
		Certificates: Certificates{Rescan: time.Minute},
		TLS: TLS{
			MinVersion:       tlsopts.TLS12,
			MaxVersion:       tlsopts.TLS13,
			ALPN:             tlsopts.ALPNStrict,
			UnknownSNI:       UnknownSNIFallback,
			HandshakeTimeout: 30 * time.Second,
		},
		Limits: Limits{PreTLSCommands: 100, PreTLSErrors: 20},
		Timeouts: Timeouts{
			PreTLSIdle: 5 * time.Minute,
			RelayIdle:  11 * time.Minute, // above minRelayIdle
			Connect:    10 * time.Second,
			Greeting:   5 * time.Minute, // RFC 5321 section 4.5.3.2.1
			HalfClose:  30 * time.Second,
			Drain:      2 * time.Minute,
		},
		Log:   Log{Level: slog.LevelInfo, Format: "text"},
		Admin: Admin{Address: "127.0.0.1:9465"},
	}
}

// complete fills in what depends on other keys.
func (s *source) complete(cfg *Config) {
	if dir := &cfg.Certificates.Directory; *dir != "" && !filepath.IsAbs(*dir) {
		*dir = filepath.Join(filepath.Dir(s.file), *dir)
	}
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		l.TLS = l.TLS.over(cfg.TLS)
		if l.Mode == ModeSTARTTLS {
			l.STARTTLS = cmp.Or(l.STARTTLS, STARTTLSRequired)
		}
		if len(cfg.Backends) == 1 && !s.isSet(&l.Backend) {
			for name := range cfg.Backends {
				l.Backend = name
			}
		}
	}
	for _, b := range cfg.Backends {
		b.ClientInfo = cmp.Or(b.ClientInfo, defaultClientInfo)
		if b.ClientInfo == ClientInfoProxyV2 && !s.isSet(&b.ProxyTLVs) {
			b.ProxyTLVs = slices.Clone(defaultProxyTLVs)
		}
		if !s.isSet(&b.MaxHeaderBytes) {
			b.MaxHeaderBytes = defaultMaxHeaderBytes
		}
	}
}

// over gives t with every field that is not set taken from base.
func (t TLS) over(base TLS) TLS {
	return TLS{
		MinVersion:       cmp.Or(t.MinVersion, base.MinVersion),
		MaxVersion:       cmp.Or(t.MaxVersion, base.MaxVersion),
		ALPN:             cmp.Or(t.ALPN, base.ALPN),
		UnknownSNI:       cmp.Or(t.UnknownSNI, base.UnknownSNI),
		HandshakeTimeout: cmp.Or(t.HandshakeTimeout, base.HandshakeTimeout),
	}
}
