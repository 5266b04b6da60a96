package config

import (
	"maps"
	"slices"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/nearest"
)

func (s *source) checkListeners(cfg *Config) {
	if len(cfg.Listeners) == 0 {
		s.fault(&cfg.Listeners, "listeners: at least one is needed")
	}
	lines := make(map[string]int) // of the names
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		if s.require(&l.Name, "name") {
			s.checkName(&l.Name, l.Name, "listener")
			if line, taken := lines[l.Name]; taken {
				s.fault(&l.Name, "the listener on line %d is named %q, too", line, l.Name)
			} else {
				lines[l.Name] = s.origins[&l.Name].line
			}
		}
		s.require(&l.Address, "address")
		s.require(&l.Mode, "mode")
		s.checkSTARTTLS(l)
		s.checkProxyProtocol(&l.ProxyProtocol)
		s.checkTLS(&l.TLS)
		s.checkBackendOf(&l.Backend, cfg)
	}
}

// maxGreetDelay is below the 30 seconds after which mail servers in the field
// give up, though RFC 5321 section 4.5.3.2.1 has them wait for 5 minutes.
const maxGreetDelay = 20 * time.Second

// checkSTARTTLS checks the keys that only a STARTTLS listener has.
func (s *source) checkSTARTTLS(l *Listener) {
	if l.Mode == ModeImplicitTLS {
		if s.isSet(&l.Hostname) {
			s.fault(&l.Hostname, "hostname needs mode starttls: with implicit TLS the client sees the backend's greeting")
		}
		if s.isSet(&l.GreetDelay) {
			s.fault(&l.GreetDelay, "greet_delay needs mode starttls: with implicit TLS the client sees the backend's greeting")
		}
		if s.isSet(&l.STARTTLS) {
			s.fault(&l.STARTTLS, "starttls needs mode starttls: with implicit TLS nothing is sent in plaintext")
		}
	}
	if l.GreetDelay > maxGreetDelay {
		s.fault(&l.GreetDelay, "%v is too long: want %v or less, because some mail servers wait only 30s for a greeting", l.GreetDelay, maxGreetDelay)
	}
	if l.Hostname != "" && !isName(smtpDomain, l.Hostname) {
		s.fault(&l.Hostname, "%q is not a host name: want letters, digits and hyphens between dots", l.Hostname)
	}
}

// checkBackendOf checks that the backend exists that a listener or a route names.
func (s *source) checkBackendOf(name *string, cfg *Config) {
	if len(cfg.Backends) == 0 {
		return // reported by checkBackends
	}
	names := slices.Sorted(maps.Keys(cfg.Backends))
	if *name == "" && !s.isSet(name) {
		s.fault(name, "backend is missing: want %s", orList(names))
		return
	}
	if _, ok := cfg.Backends[*name]; ok {
		return
	}
	if near := nearest.Name(*name, names); near != "" {
		s.fault(name, "no backend is named %q: did you mean %q?", *name, near)
		return
	}
	s.fault(name, "no backend is named %q: want %s", *name, orList(names))
}
