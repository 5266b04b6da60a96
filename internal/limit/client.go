package limit

import (
	"encoding/binary"
	"net/netip"
)

// client is an IPv4 address, or the first half of an IPv6 one. IPv4 addresses
// take the place of ::/32, where no client can be (RFC 4291 section 2.4 keeps
// ::/8 for such uses).
type client uint64

func clientOf(address netip.Addr) client {
	address = address.Unmap()
	if address.Is4() {
		bytes := address.As4()
		return client(binary.BigEndian.Uint32(bytes[:]))
	}
	bytes := address.As16()
	return client(binary.BigEndian.Uint64(bytes[:]))
}
