package backend

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// Balance is how clients are shared out among the addresses that are up.
type Balance string

// The ways to share clients out. The zero value is LeastConnections.
const (
	// LeastConnections takes the address with the fewest open connections, and
	// of those the one that was not taken for longest.
	LeastConnections Balance = "least_connections"
	// RoundRobin takes the address that was not taken for longest.
	RoundRobin Balance = "round_robin"
	// ClientHash gives a client the same address each time, by its IP address:
	// an IPv6 client by its /64, which is one customer's. When an address
	// goes, only its own clients move (rendezvous hashing); every proxy with
	// the same addresses comes to the same result.
	ClientHash Balance = "client_hash"
)

// clientKey is what a client is known by.
func clientKey(client netip.Addr) string {
	client = client.Unmap().WithZone("")
	if !client.Is6() {
		return client.String()
	}
	return netip.PrefixFrom(client, 64).Masked().Addr().String()
}

// before tells whether a comes before b in the way of balancing.
func (b Balance) before(a, other *address, client string) bool {
	switch {
	case b == ClientHash:
		return score(client, a) > score(client, other)
	case b == LeastConnections && a.open != other.open:
		return a.open < other.open
	}
	return a.taken < other.taken
}

// score is how much an address is a client's own.
func score(client string, a *address) uint64 {
	sum := sha256.Sum256([]byte(client + "\x00" + a.name))
	return binary.BigEndian.Uint64(sum[:])
}
