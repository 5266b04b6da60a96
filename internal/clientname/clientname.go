// Package clientname finds the host name of a client, as mail servers do: its
// address has the name, and the name leads back to the address.
package clientname

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Resolver asks the DNS; *net.Resolver does.
type Resolver interface {
	LookupAddr(ctx context.Context, address string) (names []string, err error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Names are what was found.
type Names struct {
	// Verified is a name of the address that leads back to it, Reverse one that
	// the address has, whether it does or not. "" is none.
	Verified, Reverse string
	// Temporary is that the DNS did not answer: there may be a name.
	Temporary bool
}

// maxNames is how many names of an address are looked at. More than one is a
// rarity, and each is a question that a stranger has us ask.
const maxNames = 4

// Lookup looks the name of an address up. It ends with ctx; a question that was
// not answered by then is Temporary.
func Lookup(ctx context.Context, r Resolver, address netip.Addr) Names {
	address = address.Unmap().WithZone("")
	found, err := r.LookupAddr(ctx, address.String())
	if err != nil {
		return Names{Temporary: isTemporary(ctx, err)}
	}
	var names Names
	for _, asked := range found[:min(len(found), maxNames)] {
		name := strings.TrimSuffix(asked, ".")
		if !isHostName(name) {
			continue
		}
		if names.Reverse == "" {
			names.Reverse = name
		}
		// As it was found: one of the DNS ends with a dot, and then no search
		// domain is tried; one of the hosts file has none, and is found there.
		addresses, err := r.LookupNetIP(ctx, "ip", asked)
		if err != nil {
			names.Temporary = names.Temporary || isTemporary(ctx, err)
			continue
		}
		if slices.ContainsFunc(addresses, func(a netip.Addr) bool { return a.Unmap().WithZone("") == address }) {
			return Names{Verified: name, Reverse: names.Reverse}
		}
	}
	return names
}

// isTemporary takes for an answer only that there is no such name.
func isTemporary(ctx context.Context, err error) bool {
	missing, ok := errors.AsType[*net.DNSError](err)
	return ctx.Err() != nil || !ok || !missing.IsNotFound
}

// isHostName holds the syntax that mail servers take (RFC 1123 section 2.1, and
// the underscore, which some networks have). Whoever has an address may give it
// any bytes for a name.
func isHostName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		for _, c := range []byte(label) {
			letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
			if !letter && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
