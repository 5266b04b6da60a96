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
	names := make(map[string]string) // of sockets of systemd's: who has them
	if name, ok := SystemdName(cfg.Admin.Address); ok {
		names[name] = fmt.Sprintf("admin.address %q", cfg.Admin.Address)
		if err := checkSystemdName(name); err != nil {
			s.fault(&cfg.Admin.Address, "%v", err)
		}
	} else if cfg.Admin.Address != AdminOff {
		address, err := listenAddress(cfg.Admin.Address)
		if err != nil {
			s.fault(&cfg.Admin.Address, "%v; %s is for no admin listener", err, AdminOff)
		} else {
			taken.add(address, fmt.Sprintf("admin.address %q", cfg.Admin.Address))
		}
	}
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		if name, ok := SystemdName(l.Address); ok {
			s.checkSocketName(l, name, names)
		} else if s.isSet(&l.Address) {
			s.checkAddress(l, taken)
		}
	}
}

// checkSocketName checks a listener on sockets that systemd passes.
func (s *source) checkSocketName(l *Listener, name string, names map[string]string) {
	if err := checkSystemdName(name); err != nil {
		s.fault(&l.Address, "%v", err)
		return
	}
	if owner := names[name]; owner != "" {
		s.fault(&l.Address, "%q is taken: %s has that socket", l.Address, owner)
		return
	}
	names[name] = fmt.Sprintf("the listener on line %d", s.origins[&l.Address].line)
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
