package config

import (
	"fmt"
	"net/netip"
)

// mailExchange is the port on which other mail servers deliver.
const mailExchange = 25

// checkAddresses checks everything that is listened on. The fault of an
// address that is used twice stands at the listener, because admin.address may
// be a default.
func (s *source) checkAddresses(cfg *Config) {
	taken := make(claims)
	if cfg.Admin.Address != AdminOff {
		address, err := listenAddress(cfg.Admin.Address)
		if err != nil {
			s.fault(&cfg.Admin.Address, "%v; %s is for no admin listener", err, AdminOff)
		} else {
			taken.add(address, fmt.Sprintf("admin.address %q", cfg.Admin.Address))
		}
	}
	for i := range cfg.Listeners {
		if l := &cfg.Listeners[i]; s.isSet(&l.Address) {
			s.checkAddress(l, taken)
		}
	}
}

func (s *source) checkAddress(l *Listener, taken claims) {
	address, err := listenAddress(l.Address)
	if err != nil {
		s.fault(&l.Address, "%v", err)
		return
	}
	if l.STARTTLS == STARTTLSRequired && address.Port() == mailExchange {
		s.fault(&l.STARTTLS, "a port 25 listener must not demand TLS of other mail servers (RFC 3207 section 4): want optional here, or port 587 for submission")
	}
	if owner := taken.add(address, fmt.Sprintf("the listener on line %d", s.origins[&l.Address].line)); owner != "" {
		s.fault(&l.Address, "%q is taken: %s listens there", l.Address, owner)
	}
}

// claims are the addresses that are listened on, by port.
type claims map[uint16][]claim

type claim struct {
	ip    netip.Addr
	owner string
}

// add claims an address, or returns the owner of one that leaves no room for
// it. Port 0 is always free, for the system picks one.
func (c claims) add(address netip.AddrPort, owner string) (taken string) {
	port, ip := address.Port(), address.Addr()
	if port == 0 {
		return ""
	}
	for _, other := range c[port] {
		if other.ip == ip || other.ip.IsUnspecified() || ip.IsUnspecified() {
			return other.owner
		}
	}
	c[port] = append(c[port], claim{ip, owner})
	return ""
}
