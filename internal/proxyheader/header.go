// Package proxyheader makes the PROXY protocol header that tells a backend
// who the client is, and with which TLS it came. The header is one []byte for
// one write: Postfix and Dovecot look at the first segment alone. For backends
// that do not read it there are the commands of XCLIENT. [Read] is for the
// header with which a load balancer in front of us does the same.
package proxyheader

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// DefaultMaxBytes is what Exim reads at most; Postfix reads 536, Dovecot 1500.
const DefaultMaxBytes = 232

// MinMaxBytes holds the addresses of IPv6 and the SSL TLV with its longest
// cipher name: a header without the latter would claim plain text.
const MinMaxBytes = 128

// TLV names a piece of information that version 2 carries.
type TLV string

// The TLVs, as the configuration names them.
const (
	SSL       TLV = "ssl"       // TLS version and cipher
	Authority TLV = "authority" // the server name
	UniqueID  TLV = "unique_id" // the session's id
	CRC32C    TLV = "crc32c"    // checksum of the header
	ALPN      TLV = "alpn"      // the protocol negotiated; Dovecot 2.4 hangs up on most
)

// DefaultTLVs is every TLV but ALPN, the one that matters most first.
var DefaultTLVs = []TLV{SSL, Authority, UniqueID, CRC32C}

// ErrNoAddress is returned for a session whose ends are not IP addresses. A
// header without the client's address (LOCAL, UNKNOWN) would make a backend
// take the client for the proxy itself, and perhaps relay for it.
var ErrNoAddress = errors.New("the client's address is not an IP address")

// Format says how a backend wants its header.
type Format struct {
	Version  int   // 1 or 2
	TLVs     []TLV // version 2: what to send; dropped from the right to fit MaxBytes
	MaxBytes int   // 0 means DefaultMaxBytes
}

// Facts are what a header tells of a session.
type Facts struct {
	Client     netip.AddrPort
	Local      netip.AddrPort       // the address that the client connected to
	TLS        *tls.ConnectionState // nil when the session is not under TLS
	Verified   bool                 // the client showed a certificate that was verified
	CommonName string               // of that certificate; may be empty
	ServerName string               // normalised; "" when the client sent none that is usable
	SessionID  string               // at most 128 bytes
}

// Encode makes the header of a client's session.
func (f Format) Encode(facts Facts) ([]byte, error) {
	source, err := tcpAddr(facts.Client)
	if err != nil {
		return nil, err
	}
	destination, err := tcpAddr(facts.Local)
	if err != nil {
		return nil, err
	}
	header := proxyproto.HeaderProxyFromAddrs(byte(f.Version), source, destination)
	if !header.Command.IsProxy() {
		return nil, ErrNoAddress
	}
	if f.Version == 1 {
		return header.Format()
	}
	bare, err := header.Format()
	if err != nil {
		return nil, err
	}
	tlvs, err := f.fit(facts, len(bare))
	if err != nil {
		return nil, err
	}
	if err := header.SetTLVs(tlvs); err != nil {
		return nil, err
	}
	raw, err := header.Format()
	if err != nil {
		return nil, err
	}
	seal(raw, len(bare))
	return raw, nil
}

// Probe makes the header of a connection on the proxy's own behalf, such as
// the check command's: LOCAL in version 2; in version 1 the connection's own
// addresses, because Postfix refuses UNKNOWN.
func (f Format) Probe(local, remote netip.AddrPort) ([]byte, error) {
	if f.Version == 1 {
		return f.Encode(Facts{Client: local, Local: remote})
	}
	header := &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	return header.Format()
}

// tcpAddr gives the address as the spec wants it: IPv4 as IPv4 even on a
// dual-stack socket, and no zone, which has no meaning elsewhere.
func tcpAddr(a netip.AddrPort) (*net.TCPAddr, error) {
	if !a.IsValid() {
		return nil, ErrNoAddress
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())), nil
}

// fit makes the TLVs that the facts can fill, and drops the last ones while
// the header would be too long. SSL stays, without the client's name if need
// be: a header that lacks it would claim plain text.
func (f Format) fit(facts Facts, bare int) ([]proxyproto.TLV, error) {
	limit := f.MaxBytes
	if limit == 0 {
		limit = DefaultMaxBytes
	}
	if bare+maxSSL+len(facts.CommonName) > limit {
		facts.CommonName = ""
	}
	var tlvs []proxyproto.TLV
	size := bare
	for _, name := range f.TLVs {
		tlv, err := facts.tlv(name)
		if err != nil {
			return nil, fmt.Errorf("TLV %s: %w", name, err)
		}
		if tlv.Value == nil {
			continue
		}
		tlvs = append(tlvs, tlv)
		size += tlvHead + len(tlv.Value)
	}
	for i := len(tlvs) - 1; i >= 0 && size > limit; i-- {
		if tlvs[i].Type == proxyproto.PP2_TYPE_SSL {
			continue
		}
		size -= tlvHead + len(tlvs[i].Value)
		tlvs = append(tlvs[:i], tlvs[i+1:]...)
	}
	return tlvs, nil
}

// maxSSL is the SSL TLV with the longest version and cipher, but for the
// client's name.
const maxSSL = MinMaxBytes - 52 // of the addresses of IPv6

// tlvHead is the type and the length of a TLV.
const tlvHead = 3

// tlv makes one TLV; its value is nil where the facts have nothing to tell.
func (facts Facts) tlv(name TLV) (proxyproto.TLV, error) {
	switch {
	case name == SSL && facts.TLS != nil:
		return facts.ssl()
	case name == Authority && facts.ServerName != "":
		return proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte(facts.ServerName)}, nil
	case name == UniqueID && facts.SessionID != "":
		return proxyproto.TLV{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: []byte(facts.SessionID)}, nil
	case name == CRC32C:
		return proxyproto.TLV{Type: proxyproto.PP2_TYPE_CRC32C, Value: make([]byte, crc32.Size)}, nil
	case name == ALPN && facts.TLS != nil && facts.TLS.NegotiatedProtocol != "":
		return proxyproto.TLV{Type: proxyproto.PP2_TYPE_ALPN, Value: []byte(facts.TLS.NegotiatedProtocol)}, nil
	}
	return proxyproto.TLV{}, nil
}

// ssl tells version and cipher in OpenSSL's words, as HAProxy does, and who the
// client is if its certificate was verified. Without that verify is not zero:
// zero would say that a certificate was verified.
func (facts Facts) ssl() (proxyproto.TLV, error) {
	tlv := tlvparse.PP2SSL{
		Client: tlvparse.PP2_BITFIELD_CLIENT_SSL,
		Verify: 1,
		TLV: []proxyproto.TLV{
			{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte(tlsopts.Version(facts.TLS.Version).String())},
			{Type: proxyproto.PP2_SUBTYPE_SSL_CIPHER, Value: []byte(tlsopts.CipherSuiteName(facts.TLS.CipherSuite))},
		},
	}
	if facts.Verified {
		tlv.Verify = 0
		tlv.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
		if !facts.TLS.DidResume {
			tlv.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN
		}
		if facts.CommonName != "" {
			tlv.TLV = append(tlv.TLV, proxyproto.TLV{Type: proxyproto.PP2_SUBTYPE_SSL_CN, Value: []byte(facts.CommonName)})
		}
	}
	return tlv.Marshal()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal fills in the checksum over the whole header, in which the checksum's
// own bytes count as zero (PROXY protocol specification, section 2.2.3).
func seal(raw []byte, tlvs int) {
	for at := tlvs; ; {
		kind, value, whole := tlvAt(raw, at)
		if !whole {
			return
		}
		if kind == proxyproto.PP2_TYPE_CRC32C {
			binary.BigEndian.PutUint32(value, crc32.Checksum(raw, castagnoli))
			return
		}
		at += tlvHead + len(value)
	}
}
