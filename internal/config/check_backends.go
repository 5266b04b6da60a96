package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

func (s *source) checkBackends(cfg *Config) {
	if len(cfg.Backends) == 0 {
		s.fault(&cfg.Backends, "backends: at least one is needed")
	}
	used := make(map[string]bool)
	certain := len(cfg.Listeners) > 0
	for _, name := range namedBackends(cfg) {
		used[*name] = true
		certain = certain && s.origins[name].state != faulty
	}
	s.checkUnknownClients(cfg)
	for _, name := range slices.Sorted(maps.Keys(cfg.Backends)) {
		s.checkBackend(name, cfg.Backends[name])
		if certain && !used[name] {
			s.fault(cfg.Backends[name], "no listener and no route uses the backend %q: name it in one, or remove it", name)
		}
	}
}

// namedBackends are the fields that name a backend.
func namedBackends(cfg *Config) (fields []*string) {
	for i := range cfg.Listeners {
		fields = append(fields, &cfg.Listeners[i].Backend)
	}
	for i := range cfg.Routes {
		fields = append(fields, &cfg.Routes[i].Backend)
	}
	return fields
}

// checkUnknownClients refuses a backend that is told of no client where
// strangers can connect: it would take them for the proxy, and might relay.
func (s *source) checkUnknownClients(cfg *Config) {
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		// A load balancer in front brings strangers to loopback, too.
		address, err := listenAddress(l.Address)
		if err == nil && address.Addr().IsLoopback() && len(l.ProxyProtocol.Trusted) == 0 {
			continue
		}
		names := []string{l.Backend}
		for _, r := range cfg.Routes { // which hold for every listener
			names = append(names, r.Backend)
		}
		for _, name := range names {
			if b := cfg.Backends[name]; b != nil && b.ClientInfo == ClientInfoNone && !b.AllowUnknownClients {
				s.fault(&b.ClientInfo, "%q would make the backend take every client of listener %s for the proxy itself, and it might relay for all: "+
					"want proxy-v2, proxy-v1 or xclient, or allow_unknown_clients: true beside it if the backend relays for nobody without AUTH, the proxy's address included", b.ClientInfo, l.Name)
			}
		}
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
	s.checkBackendTLS(b)
	if b.AllowUnknownClients && b.ClientInfo != ClientInfoNone {
		s.fault(&b.AllowUnknownClients, "allow_unknown_clients needs client_info none: with %s the backend knows its clients", b.ClientInfo)
	}
	if b.ClientInfo != ClientInfoProxyV2 {
		s.checkNoProxyV2(b)
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

// checkNoProxyV2 refuses what has an effect on a version 2 header only.
func (s *source) checkNoProxyV2(b *Backend) {
	why := fmt.Sprintf("with %s there is no version 2 header", b.ClientInfo)
	if s.isSet(&b.ProxyTLVs) {
		s.fault(&b.ProxyTLVs, "proxy_tlvs needs client_info proxy-v2: %s", why)
	}
	if s.isSet(&b.MaxHeaderBytes) {
		s.fault(&b.MaxHeaderBytes, "max_header_bytes needs client_info proxy-v2: %s", why)
	}
}

// checkBackendTLS refuses what would have no effect, and what would let a
// stranger be the backend.
func (s *source) checkBackendTLS(b *Backend) {
	t := &b.TLS
	if t.Mode == BackendTLSNone {
		for field, key := range map[any]string{&t.ServerName: "server_name", &t.CA: "ca", &t.Pins: "pins", &t.Certificate: "certificate", &t.Key: "key"} {
			if s.isSet(field) {
				s.fault(field, "%s needs tls.mode starttls or implicit", key)
			}
		}
		return
	}
	if s.isSet(&t.Pins) && len(t.Pins) == 0 {
		s.fault(&t.Pins, "the list is empty: want at least one pin, or no pins")
	}
	if t.ServerName == "" && (t.CA != "" || len(t.Pins) == 0) {
		s.fault(&t.ServerName, "server_name is missing, and the addresses do not have one host in common: want the name in the backend's certificate, or pins without ca")
	}
	if _, err := netip.ParseAddr(t.ServerName); err != nil && t.ServerName != "" && !isName(dnsName, t.ServerName) {
		s.fault(&t.ServerName, "%q is neither a host name nor an IP address", t.ServerName)
	}
	if (t.Certificate == "") != (t.Key == "") {
		s.fault(t, "certificate and key belong together: want both or none")
	}
}
