package config

import (
	"strings"
	"time"
)

// minRelayIdle is how long a client waits for the reply to its final dot (RFC
// 5321 section 4.5.3.2.6).
const minRelayIdle = 10 * time.Minute

// check reports what is wrong with the values of a completed cfg.
func (s *source) check(cfg *Config) {
	s.checkCertificates(&cfg.Certificates)
	s.checkTLS(&cfg.TLS)
	s.checkListeners(cfg)
	s.checkUse(cfg)
	s.checkAddresses(cfg)
	s.checkRoutes(cfg)
	s.checkBackends(cfg)
	s.checkLimits(&cfg.Limits)
	s.checkProcess(&cfg.Process)
	if cfg.Timeouts.RelayIdle < minRelayIdle {
		s.fault(&cfg.Timeouts.RelayIdle,
			"%v is too short: a client waits 10m for the reply to its final dot (RFC 5321 section 4.5.3.2.6), and to give up sooner doubles messages; want 10m or more",
			cfg.Timeouts.RelayIdle)
	}
	if err := oneOf(&cfg.Log.Format, []byte(cfg.Log.Format), "a log format", "text", "json"); err != nil {
		s.fault(&cfg.Log.Format, "%v", err)
	}
}

func (s *source) checkCertificates(c *Certificates) {
	if s.require(&c.Directory, "certificates.directory") && c.Directory == "" {
		s.fault(&c.Directory, "certificates.directory is empty: name the folder that holds one folder per server name")
	}
	s.checkRange(&c.Cache, 1, 10_000_000)
	if strings.HasPrefix(c.Default, ".") || strings.ContainsRune(c.Default, '/') {
		s.fault(&c.Default, "%q is not the name of a folder in certificates.directory: want one without a slash that does not begin with a dot", c.Default)
	}
}

// checkLimits takes no 0, which could be meant for no limit or for no client.
// For no limit there are numbers that are never reached.
func (s *source) checkLimits(l *Limits) {
	for _, field := range []*int{&l.Connections, &l.ConnectionsPerClient, &l.HandshakeRate, &l.ConcurrentHandshakes} {
		s.checkRange(field, 1, 1_000_000)
	}
	s.checkRange(&l.PreTLSCommands, 1, 100000)
	s.checkRange(&l.PreTLSErrors, 1, 100000)
}

func (s *source) checkRange(field *int, lowest, highest int) {
	if *field < lowest || *field > highest {
		s.fault(field, "%d is out of range: want %d to %d", *field, lowest, highest)
	}
}

func (s *source) checkDuration(field *time.Duration, lowest, highest time.Duration) {
	if *field < lowest || *field > highest {
		s.fault(field, "%s is out of range: want %s to %s", brief(*field), brief(lowest), brief(highest))
	}
}

// brief writes a duration as people do: 1h and not 1h0m0s.
func brief(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func (s *source) checkName(field any, name, what string) {
	if !simpleName.MatchString(name) {
		s.fault(field, "%q is not a name for a %s: want 1 to 63 of a-z, 0-9, _ and -", name, what)
	}
}
