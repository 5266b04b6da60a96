package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Range is a range of IP addresses, and never all of them.
type Range struct{ netip.Prefix }

// UnmarshalText reads a range in CIDR notation, or one address.
func (r *Range) UnmarshalText(text []byte) error {
	written := string(text)
	if !strings.ContainsRune(written, '/') {
		address, err := netip.ParseAddr(written)
		if err != nil || address.Zone() != "" {
			return notRange(written)
		}
		r.Prefix = netip.PrefixFrom(address, address.BitLen())
	} else {
		prefix, err := netip.ParsePrefix(written)
		if err != nil {
			return notRange(written)
		}
		r.Prefix = prefix
	}
	switch whole := r.Masked(); {
	case r.Bits() == 0:
		return fmt.Errorf("%q is every address: whoever connects could claim to be any client; want the addresses of the load balancers", written)
	case r.Addr().Is4In6():
		return fmt.Errorf("%q is IPv4 written as IPv6: want the form 10.0.0.0/8", written)
	case whole != r.Prefix:
		return fmt.Errorf("%q has bits behind its /%d: want %s or %s", written, r.Bits(), whole, r.Addr())
	}
	return nil
}

func notRange(written string) error {
	return fmt.Errorf("%q is not a range of addresses: want one such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32", written)
}

// checkProxyProtocol refuses a listener that nobody can reach.
func (s *source) checkProxyProtocol(p *ProxyProtocol) {
	if !s.isSet(p) {
		return
	}
	if s.require(&p.Trusted, "proxy_protocol.trusted") && len(p.Trusted) == 0 {
		s.fault(&p.Trusted, "the list is empty, and so nobody could connect: want the addresses of the load balancers, or no proxy_protocol")
	}
	for i := range p.Trusted {
		if one := &p.Trusted[i]; s.isSet(one) && slices.Contains(p.Trusted[:i], *one) {
			s.fault(one, "%s is in the list twice", one)
		}
	}
}
