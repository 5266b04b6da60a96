package proxyheader

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// Why a header can not be read. What the connection itself says comes as it is:
// io.EOF is one that ended before a first byte.
var (
	// ErrMissing is returned where something else than a header came.
	ErrMissing = errors.New("no PROXY header")
	// ErrMalformed is returned for a header that breaks the specification, that
	// ends too early, or that tells of no client of TCP.
	ErrMalformed = errors.New("malformed PROXY header")
)

// Ends are the two ends of the connection that a header tells of.
type Ends struct {
	Client netip.AddrPort
	Local  netip.AddrPort // the address that the client connected to
}

// Own tells that the sender speaks for itself and for no client, as with LOCAL
// and UNKNOWN. Both addresses are then none.
func (e Ends) Own() bool { return !e.Client.IsValid() }

const (
	maxV1 = 107 // bytes, the line end included
	// prefixV2 is the signature, version and command, family, and length.
	prefixV2 = 16
	// maxV2 bounds what follows. The specification allows 65535; a client
	// certificate, the largest that load balancers send, has 1 to 2 KiB.
	maxV2 = 4096
	// maxUniqueID is of the specification, section 2.2.5.
	maxUniqueID = 128
)

var (
	signatureV1 = []byte("PROXY ")
	signatureV2 = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// Read takes a header of version 1 or 2 from a connection: its bytes and not
// one more, since what follows is for another reader, such as crypto/tls. It
// may come in any pieces. How long that may take is the caller's to bound.
//
// go-proxyproto knows the grammar; but it reads ahead, wants version 1 in one
// piece, and looks at no checksum, so the bytes are gathered here.
func Read(r io.Reader) (Ends, error) {
	raw, err := gather(r)
	if err != nil {
		return Ends{}, err
	}
	header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return Ends{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := checkTLVs(header, raw); err != nil {
		return Ends{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if header.Command.IsLocal() {
		return Ends{}, nil // the addresses are not to be looked at
	}
	return endsOf(header)
}

// gather reads the bytes of one header. Both versions have more than the
// signature of version 2, so that many can be read of either.
func gather(r io.Reader) ([]byte, error) {
	raw := make([]byte, 0, maxV1)
	for len(raw) < len(signatureV2) {
		n, err := r.Read(raw[len(raw):len(signatureV2)])
		raw = raw[:len(raw)+n]
		if n > 0 && !begins(raw, signatureV1) && !begins(raw, signatureV2) {
			return nil, ErrMissing
		}
		if err != nil {
			return nil, early(err, len(raw))
		}
	}
	if raw[0] == signatureV1[0] {
		return gatherV1(r, raw)
	}
	return gatherV2(r, raw)
}

// begins tells whether the bytes are the signature, as far as they go.
func begins(raw, signature []byte) bool {
	n := min(len(raw), len(signature))
	return bytes.Equal(raw[:n], signature[:n])
}

// gatherV1 reads up to the line end. As long as no CR is there at least two
// bytes are to come.
func gatherV1(r io.Reader, raw []byte) ([]byte, error) {
	for raw[len(raw)-1] != '\n' {
		next := 2
		if raw[len(raw)-1] == '\r' {
			next = 1
		}
		if len(raw)+next > maxV1 {
			return nil, fmt.Errorf("%w: version 1 with more than %d bytes", ErrMalformed, maxV1)
		}
		n, err := r.Read(raw[len(raw) : len(raw)+next])
		raw = raw[:len(raw)+n]
		if n == 0 && err != nil {
			return nil, early(err, len(raw))
		}
	}
	return raw, nil
}

// gatherV2 reads as many bytes as the header says.
func gatherV2(r io.Reader, raw []byte) ([]byte, error) {
	raw = raw[:prefixV2]
	if _, err := io.ReadFull(r, raw[len(signatureV2):]); err != nil {
		return nil, early(err, prefixV2)
	}
	size := int(binary.BigEndian.Uint16(raw[prefixV2-2:]))
	if size > maxV2 {
		return nil, fmt.Errorf("%w: version 2 with %d bytes behind the first %d, at most %d are read", ErrMalformed, size, prefixV2, maxV2)
	}
	raw = append(raw, make([]byte, size)...)
	if _, err := io.ReadFull(r, raw[prefixV2:]); err != nil {
		return nil, early(err, len(raw))
	}
	return raw, nil
}

// early is the error of a connection that fails within the header.
func early(err error, begun int) error {
	if begun > 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return fmt.Errorf("%w: %w", ErrMalformed, io.ErrUnexpectedEOF)
	}
	return err
}

// checkTLVs looks at what follows the addresses of version 2. That of LOCAL is
// to be discarded (specification, section 2.2), but a wrong checksum tells that
// the word LOCAL itself may be wrong. The list of go-proxyproto does not do: it
// leaves out the length of padding, and so the place of what comes behind it.
func checkTLVs(header *proxyproto.Header, raw []byte) error {
	if header.Version == 1 {
		return nil
	}
	summed := false
	for at := addressesEnd(raw); at < len(raw); {
		kind, value, whole := tlvAt(raw, at)
		switch {
		case !whole && header.Command.IsLocal():
			return nil
		case !whole:
			return errors.New("a TLV is longer than the header")
		case kind == proxyproto.PP2_TYPE_UNIQUE_ID && len(value) > maxUniqueID:
			return fmt.Errorf("a UNIQUE_ID of %d bytes, at most %d are allowed", len(value), maxUniqueID)
		case kind != proxyproto.PP2_TYPE_CRC32C:
		case summed || len(value) != crc32.Size:
			return errors.New("a checksum that is none")
		case binary.BigEndian.Uint32(value) != checksum(raw, at+tlvHead):
			return errors.New("wrong checksum")
		default:
			summed = true
		}
		at += tlvHead + len(value)
	}
	return nil
}

// tlvAt is the TLV that begins there, and whether the header has all of it.
func tlvAt(raw []byte, at int) (kind proxyproto.PP2Type, value []byte, whole bool) {
	begin := at + tlvHead
	if begin > len(raw) {
		return 0, nil, false
	}
	end := begin + int(binary.BigEndian.Uint16(raw[begin-2:]))
	if end > len(raw) {
		return 0, nil, false
	}
	return proxyproto.PP2Type(raw[at]), raw[begin:end], true
}

// addressesEnd is where the addresses of a version 2 header end, and the TLVs
// begin.
func addressesEnd(raw []byte) int {
	switch family := proxyproto.AddressFamilyAndProtocol(raw[13]); {
	case family.IsIPv4():
		return prefixV2 + 12
	case family.IsIPv6():
		return prefixV2 + 36
	case family.IsUnix():
		return prefixV2 + 216
	}
	return prefixV2
}

// checksum is that of a header whose own checksum begins at that place, and
// counts as zero.
func checksum(raw []byte, at int) uint32 {
	var zero [crc32.Size]byte
	sum := crc32.Checksum(raw[:at], castagnoli)
	sum = crc32.Update(sum, castagnoli, zero[:])
	return crc32.Update(sum, castagnoli, raw[at+crc32.Size:])
}

// endsOf takes the addresses, IPv4 as IPv4 however it is written. A client is
// one of TCP: neither UDP nor a UNIX socket brings mail, and a backend could
// not be told of it.
func endsOf(header *proxyproto.Header) (Ends, error) {
	client, ok := header.SourceAddr.(*net.TCPAddr)
	local, okLocal := header.DestinationAddr.(*net.TCPAddr)
	if !ok || !okLocal {
		return Ends{}, fmt.Errorf("%w: a client that does not come by TCP", ErrMalformed)
	}
	ends := Ends{canonical(client), canonical(local)}
	if from := ends.Client.Addr(); from.IsUnspecified() || from.IsMulticast() {
		return Ends{}, fmt.Errorf("%w: %v is no client's address", ErrMalformed, from)
	}
	return ends, nil
}

func canonical(a *net.TCPAddr) netip.AddrPort {
	addrPort := a.AddrPort()
	return netip.AddrPortFrom(addrPort.Addr().Unmap(), addrPort.Port())
}
