package proxyheader_test

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
)

var unzonedV6 = netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")

// everySuite is a connection of each cipher suite that crypto/tls knows.
func everySuite() []*tls.ConnectionState {
	var states []*tls.ConnectionState
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		versions := suite.SupportedVersions
		states = append(states, &tls.ConnectionState{Version: versions[len(versions)-1], CipherSuite: suite.ID})
	}
	return states
}

// FuzzEncode holds that a header for a client is refused for want of an
// address, or else tells exactly that client, is never LOCAL or UNKNOWN, has
// no more bytes than the backend reads, and carries a prefix of the TLVs asked
// for with a right checksum.
func FuzzEncode(f *testing.F) {
	v4, v6 := []byte{198, 51, 100, 7}, netip.MustParseAddr("2001:db8::7").AsSlice()
	f.Add(1, v4, v4, "", uint16(4711), uint8(0), uint(0), "a.example", "id", "")
	f.Add(2, v6, v6, "eth0", uint16(0), uint8(1), uint(128), "a.example", "id", "smtp")
	f.Add(2, v4, v6, "", uint16(65535), uint8(7), uint(232), "a.example", "id", "submission")
	f.Fuzz(func(t *testing.T, version int, client, local []byte, zone string, port uint16, suite uint8, limit uint, serverName, id, protocol string) {
		format := everything
		format.Version = 1 + version&1
		format.MaxBytes = proxyheader.MinMaxBytes + int(limit%(4096-proxyheader.MinMaxBytes)) // the configuration's range
		facts := proxyheader.Facts{Client: address(client, zone, port), Local: address(local, zone, 465), ServerName: serverName, SessionID: id}
		if suites := everySuite(); int(suite) < len(suites) {
			facts.TLS = suites[suite]
			facts.TLS.NegotiatedProtocol = protocol
		}

		raw, err := format.Encode(facts)
		if valid := facts.Client.IsValid() && facts.Local.IsValid(); err != nil || !valid {
			if valid || raw != nil || !errors.Is(err, proxyheader.ErrNoAddress) {
				t.Fatalf("%v and %v: %q, %v", facts.Client, facts.Local, raw, err)
			}
			return
		}
		header := read(t, raw)
		requireAddresses(t, header, byte(format.Version), family(facts), facts)
		if format.Version == 1 {
			if len(raw) > maxV1 {
				t.Errorf("%d bytes of version 1", len(raw))
			}
			return
		}
		if len(raw) > format.MaxBytes {
			t.Errorf("%d bytes, at most %d are wanted", len(raw), format.MaxBytes)
		}
		requirePrefix(t, raw, format, facts)
	})
}

func address(ip []byte, zone string, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.WithZone(zone), port)
}

func family(facts proxyheader.Facts) proxyproto.AddressFamilyAndProtocol {
	if facts.Client.Addr().Unmap().Is4() && facts.Local.Addr().Unmap().Is4() {
		return proxyproto.TCPv4
	}
	return proxyproto.TCPv6
}

// requirePrefix holds that the TLVs are those asked for and known, cut from
// the right.
func requirePrefix(t *testing.T, raw []byte, format proxyheader.Format, facts proxyheader.Facts) {
	t.Helper()
	known := map[proxyheader.TLV]bool{
		proxyheader.SSL:       facts.TLS != nil,
		proxyheader.Authority: facts.ServerName != "",
		proxyheader.UniqueID:  facts.SessionID != "",
		proxyheader.CRC32C:    true,
		proxyheader.ALPN:      facts.TLS != nil && facts.TLS.NegotiatedProtocol != "",
	}
	var want []proxyproto.PP2Type
	for _, name := range format.TLVs {
		if known[name] {
			want = append(want, tlvTypes[name])
		}
	}
	got := typesIn(t, raw)
	if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
		t.Errorf("the TLVs %x are no prefix of %x", got, want)
	}
	if slices.Contains(got, proxyproto.PP2_TYPE_CRC32C) {
		bare := 28
		if family(facts) == proxyproto.TCPv6 {
			bare = 52
		}
		requireChecksum(t, raw, bare)
	}
}
