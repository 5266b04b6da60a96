package config

import (
	"slices"
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

// proxyTLVs are the TLVs that proxy_tlvs may list.
var proxyTLVs = []string{"ssl", "authority", "unique_id", "crc32c", "alpn"}

func (s *source) checkBackend(name string, b *Backend) {
	s.checkName(b, name, "backend")
	if name == "none" {
		s.fault(b, "%q is what metrics call the backend of a session that has none: choose another name", name)
	}
	if s.require(&b.Addresses, "addresses") && len(b.Addresses) == 0 {
		s.fault(&b.Addresses, "the list is empty: want at least one address")
	}
	for i, address := range b.Addresses {
		if err := checkBackendAddress(address); err != nil {
			s.fault(&b.Addresses[i], "%v", err)
		}
	}
	s.checkHealthCheck(&b.HealthCheck)
	if b.ClientInfo == ClientInfoProxyV1 {
		s.checkProxyV1(b)
		return
	}
	for i, tlv := range b.ProxyTLVs {
		if err := oneOf(&tlv, []byte(tlv), "a TLV", proxyTLVs...); err != nil {
			s.fault(&b.ProxyTLVs[i], "%v", err)
		} else if slices.Contains(b.ProxyTLVs[:i], tlv) {
			s.fault(&b.ProxyTLVs[i], "%q is in the list twice", tlv)
		}
	}
	s.checkRange(&b.MaxHeaderBytes, 128, 4096)
}

// The bounds of health_check. Below the lowest times a backend would have more
// health checks than clients, and a busy one would seem to be down.
const (
	minHealthTime  = 100 * time.Millisecond
	maxHealthTime  = time.Hour
	maxHealthCount = 100
)

func (s *source) checkHealthCheck(h *HealthCheck) {
	s.checkDuration(&h.Interval, minHealthTime, maxHealthTime)
	s.checkDuration(&h.Timeout, minHealthTime, maxHealthTime)
	s.checkRange(&h.Rise, 1, maxHealthCount)
	s.checkRange(&h.Fall, 1, maxHealthCount)
}

// checkProxyV1 refuses what would have no effect on a version 1 header.
func (s *source) checkProxyV1(b *Backend) {
	if s.isSet(&b.ProxyTLVs) {
		s.fault(&b.ProxyTLVs, "proxy_tlvs needs client_info proxy-v2: a version 1 header carries none")
	}
	if s.isSet(&b.MaxHeaderBytes) {
		s.fault(&b.MaxHeaderBytes, "max_header_bytes needs client_info proxy-v2: a version 1 header has at most 107 bytes")
	}
}
