package config

import (
	"strings"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// checkTLS checks a tls group that is complete. What only follows from the
// file's tls group is reported there and not again at each listener.
func (s *source) checkTLS(t *TLS) {
	s.checkOptions(t)
	s.checkClientAuth(&t.ClientAuth)
	s.checkTickets(&t.SessionTickets)
}

// checkOptions reports what package tlsopts finds wrong with options that are
// each right: an empty range of versions, no cipher suite left.
func (s *source) checkOptions(t *TLS) {
	_, err := t.Options().Config()
	if err == nil {
		return
	}
	fields := []struct {
		key   string
		field any
	}{
		{"min_version", &t.MinVersion}, {"max_version", &t.MaxVersion}, {"ciphers", &t.Ciphers},
		{"curves", &t.Curves}, {"alpn", &t.ALPN}, {"profile", &t.Profile},
	}
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSuffix(line, "\n")
		at := any(nil)
		for _, f := range fields {
			// The key that the error begins with, or else the first that is
			// written: the fault is between them.
			if s.isSet(f.field) && (at == nil || strings.HasPrefix(line, f.key)) {
				at = f.field
			}
		}
		if at != nil {
			s.fault(at, "%s", line)
		}
	}
}

func (s *source) checkClientAuth(c *ClientAuth) {
	verifies := c.Mode == tlsopts.ClientAuthRequire || c.Mode == tlsopts.ClientAuthVerifyIfGiven
	if verifies && c.CA == "" && len(c.Pins) == 0 {
		s.fault(&c.Mode, "client_auth.mode %s needs client_auth.ca, client_auth.pins or both to verify by", c.Mode)
	}
}

func (s *source) checkTickets(t *SessionTickets) {
	if s.isSet(&t.Rotate) && t.Rotate < time.Minute {
		s.fault(&t.Rotate, "%v is too short: replicas whose clocks differ a little need 1m or more", t.Rotate)
	}
	if s.isSet(&t.Lifetime) && (t.Lifetime < time.Second || t.Lifetime > 7*24*time.Hour) {
		s.fault(&t.Lifetime, "%v is out of range: want 1s to 168h (RFC 8446 section 4.6.1)", t.Lifetime)
	}
}

// checkUse reports what is written and can have no effect: keys that wait for
// another one that nobody has set. A file's group is used where a listener is.
func (s *source) checkUse(cfg *Config) {
	var authenticates, resumes bool
	for i := range cfg.Listeners {
		t := &cfg.Listeners[i].TLS
		mine := t.ClientAuth.Mode != tlsopts.ClientAuthNone
		s.checkClientAuthUse(&t.ClientAuth, mine)
		s.checkTicketsUse(&t.SessionTickets, t.SessionTickets.Enabled)
		authenticates = authenticates || mine
		resumes = resumes || t.SessionTickets.Enabled
	}
	s.checkClientAuthUse(&cfg.TLS.ClientAuth, authenticates)
	s.checkTicketsUse(&cfg.TLS.SessionTickets, resumes)
}

func (s *source) checkClientAuthUse(c *ClientAuth, used bool) {
	if used || s.isSet(&c.Mode) {
		return
	}
	const without = "client_auth.%s has no effect without client_auth.mode: want request, require_any, verify_if_given or require"
	if s.isSet(&c.CA) {
		s.fault(&c.CA, without, "ca")
	}
	if s.isSet(&c.Pins) {
		s.fault(&c.Pins, without, "pins")
	}
}

func (s *source) checkTicketsUse(t *SessionTickets, used bool) {
	if used || s.isSet(&t.Enabled) {
		return
	}
	for _, f := range []struct {
		key   string
		field any
	}{{"secret_file", &t.SecretFile}, {"rotate", &t.Rotate}, {"lifetime", &t.Lifetime}, {"context", &t.Context}} {
		if s.isSet(f.field) {
			s.fault(f.field, "session_tickets.%s has no effect without session_tickets.enabled: true", f.key)
		}
	}
}
