package proxyheader_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
)

// The longest that the specification allows version 1, and that Postfix reads
// of version 2.
const (
	maxV1      = 107
	maxPostfix = 536
)

var (
	tls13 = &tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256, NegotiatedProtocol: "smtp"}
	tls12 = &tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
)

// everything is a format that leaves nothing out.
var everything = proxyheader.Format{Version: 2, TLVs: append(slices.Clone(proxyheader.DefaultTLVs), proxyheader.ALPN), MaxBytes: maxPostfix}

// full are facts that fill every TLV.
func full() proxyheader.Facts {
	return proxyheader.Facts{
		Client:     netip.MustParseAddrPort("198.51.100.7:4711"),
		Local:      netip.MustParseAddrPort("192.0.2.1:465"),
		TLS:        tls13,
		ServerName: "mail.customer.example",
		SessionID:  "01JD4Z3QW8F6T2",
	}
}

func encode(t testing.TB, f proxyheader.Format, facts proxyheader.Facts) []byte {
	t.Helper()
	raw, err := f.Encode(facts)
	if err != nil {
		t.Fatalf("Encode(%+v): %v", facts, err)
	}
	return raw
}

// read parses a header as a backend does, and holds that it ends where the
// client's first command begins.
func read(t testing.TB, raw []byte) *proxyproto.Header {
	t.Helper()
	const command = "EHLO client.example\r\n"
	reader := bufio.NewReader(io.MultiReader(bytes.NewReader(raw), strings.NewReader(command)))
	header, err := proxyproto.Read(reader)
	if err != nil {
		t.Fatalf("go-proxyproto does not read %q: %v", raw, err)
	}
	if rest, err := io.ReadAll(reader); err != nil || string(rest) != command {
		t.Fatalf("after the header came %q, %v; want the client's first command", rest, err)
	}
	return header
}

// tlvs maps the TLVs of a header by type, and fails where one stands twice.
func tlvs(t testing.TB, header *proxyproto.Header) map[proxyproto.PP2Type][]byte {
	t.Helper()
	list, err := header.TLVs()
	if err != nil {
		t.Fatalf("TLVs: %v", err)
	}
	byType := map[proxyproto.PP2Type][]byte{}
	for _, tlv := range list {
		if _, twice := byType[tlv.Type]; twice {
			t.Fatalf("TLV 0x%02x stands twice", tlv.Type)
		}
		byType[tlv.Type] = tlv.Value
	}
	return byType
}

func TestEncode_RoundTrip(t *testing.T) {
	for _, c := range []struct {
		name          string
		client, local string
		v1            string // the addresses as version 1 spells them
		family        proxyproto.AddressFamilyAndProtocol
	}{
		{"ipv4", "198.51.100.7:4711", "192.0.2.1:465",
			"TCP4 198.51.100.7 192.0.2.1 4711 465", proxyproto.TCPv4},
		{"ipv6", "[2001:db8::7]:4711", "[2001:db8::1]:465",
			"TCP6 2001:db8::7 2001:db8::1 4711 465", proxyproto.TCPv6},
		{"mapped on a dual-stack socket", "[::ffff:198.51.100.7]:4711", "[::ffff:192.0.2.1]:465",
			"TCP4 198.51.100.7 192.0.2.1 4711 465", proxyproto.TCPv4},
		{"one end mapped", "[::ffff:198.51.100.7]:4711", "192.0.2.1:465",
			"TCP4 198.51.100.7 192.0.2.1 4711 465", proxyproto.TCPv4},
		{"link-local with a zone", "[fe80::7%eth0]:4711", "[fe80::1%eth0]:465",
			"TCP6 fe80::7 fe80::1 4711 465", proxyproto.TCPv6},
		{"ipv4 client, ipv6 local", "198.51.100.7:4711", "[2001:db8::1]:465",
			"TCP6 ::ffff:198.51.100.7 2001:db8::1 4711 465", proxyproto.TCPv6},
		{"ipv6 client, ipv4 local", "[2001:db8::7]:4711", "192.0.2.1:465",
			"TCP6 2001:db8::7 ::ffff:192.0.2.1 4711 465", proxyproto.TCPv6},
		{"mapped client, ipv6 local", "[::ffff:198.51.100.7]:4711", "[2001:db8::1]:465",
			"TCP6 ::ffff:198.51.100.7 2001:db8::1 4711 465", proxyproto.TCPv6},
		{"lowest and highest port", "198.51.100.7:0", "192.0.2.1:65535",
			"TCP4 198.51.100.7 192.0.2.1 0 65535", proxyproto.TCPv4},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := full()
			facts.Client, facts.Local = netip.MustParseAddrPort(c.client), netip.MustParseAddrPort(c.local)

			raw := encode(t, proxyheader.Format{Version: 1, TLVs: proxyheader.DefaultTLVs}, facts)
			if want := "PROXY " + c.v1 + "\r\n"; string(raw) != want {
				t.Errorf("version 1: %q, want %q", raw, want)
			}
			requireAddresses(t, read(t, raw), 1, c.family, facts)
			requireAddresses(t, read(t, encode(t, everything, facts)), 2, c.family, facts)
		})
	}
}

func requireAddresses(t *testing.T, header *proxyproto.Header, version byte, family proxyproto.AddressFamilyAndProtocol, facts proxyheader.Facts) {
	t.Helper()
	if header.Version != version || header.Command != proxyproto.PROXY || header.TransportProtocol != family {
		t.Errorf("version %d, command %v, family 0x%02x; want %d, PROXY, 0x%02x",
			header.Version, header.Command, header.TransportProtocol, version, family)
	}
	if got := plain(header.SourceAddr); got != unzoned(facts.Client) {
		t.Errorf("version %d: source %v, want %v", version, got, unzoned(facts.Client))
	}
	if got := plain(header.DestinationAddr); got != unzoned(facts.Local) {
		t.Errorf("version %d: destination %v, want %v", version, got, unzoned(facts.Local))
	}
}

func plain(a net.Addr) netip.AddrPort { return unzoned(a.(*net.TCPAddr).AddrPort()) }

func unzoned(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func TestR43_LengthLimits(t *testing.T) {
	facts := full()
	facts.Client = netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")
	facts.Local = netip.MustParseAddrPort("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535")
	facts.ServerName = strings.Repeat("a.", 126) + "b" // 253 bytes, the longest name
	facts.SessionID = strings.Repeat("x", 128)

	if raw := encode(t, proxyheader.Format{Version: 1}, facts); len(raw) > maxV1 {
		t.Errorf("version 1: %d bytes, at most %d are allowed", len(raw), maxV1)
	}
	if raw := encode(t, everything, facts); len(raw) > maxPostfix {
		t.Errorf("version 2: %d bytes, Postfix reads %d", len(raw), maxPostfix)
	}
	byDefault := everything
	byDefault.MaxBytes = 0
	if raw := encode(t, byDefault, facts); len(raw) > proxyheader.DefaultMaxBytes {
		t.Errorf("version 2 without a limit set: %d bytes, want %d at most", len(raw), proxyheader.DefaultMaxBytes)
	}
}

func TestR44_CanonicalV1(t *testing.T) {
	for _, c := range []struct{ name, client, local, want string }{
		{"zeros are shortened", "[2001:0db8:0000:0000:0000:0000:0000:0007]:25", "[::1]:25", "PROXY TCP6 2001:db8::7 ::1 25 25\r\n"},
		{"mapped is TCP4", "[::ffff:10.0.0.1]:25", "[::ffff:10.0.0.2]:25", "PROXY TCP4 10.0.0.1 10.0.0.2 25 25\r\n"},
		{"no zone", "[fe80::1%eth0]:25", "[fe80::2%eth0]:25", "PROXY TCP6 fe80::1 fe80::2 25 25\r\n"},
		{"mixed is TCP6", "10.0.0.1:25", "[::1]:25", "PROXY TCP6 ::ffff:10.0.0.1 ::1 25 25\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			facts := proxyheader.Facts{Client: netip.MustParseAddrPort(c.client), Local: netip.MustParseAddrPort(c.local)}
			if raw := encode(t, proxyheader.Format{Version: 1}, facts); string(raw) != c.want {
				t.Errorf("%q, want %q", raw, c.want)
			}
		})
	}
}

func TestR45_NoAddressIsRefused(t *testing.T) {
	address := netip.MustParseAddrPort("192.0.2.1:465")
	for name, facts := range map[string]proxyheader.Facts{
		"no client address": {Local: address},
		"no local address":  {Client: address},
		"a port alone":      {Client: netip.AddrPortFrom(netip.Addr{}, 25), Local: address},
		"neither":           {},
	} {
		for _, version := range []int{1, 2} {
			format := everything
			format.Version = version
			raw, err := format.Encode(facts)
			if !errors.Is(err, proxyheader.ErrNoAddress) || raw != nil {
				t.Errorf("%s, version %d: %q, %v; want ErrNoAddress", name, version, raw, err)
			}
		}
	}
}

func TestR46_TLVsTellTheFacts(t *testing.T) {
	for name, state := range map[string]*tls.ConnectionState{"TLSv1.3 TLS_AES_128_GCM_SHA256": tls13, "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384": tls12} {
		facts := full()
		facts.TLS = state
		got := tlvs(t, read(t, encode(t, everything, facts)))
		if v := string(got[proxyproto.PP2_TYPE_AUTHORITY]); v != facts.ServerName {
			t.Errorf("AUTHORITY %q, want %q", v, facts.ServerName)
		}
		if v := string(got[proxyproto.PP2_TYPE_UNIQUE_ID]); v != facts.SessionID {
			t.Errorf("UNIQUE_ID %q, want %q", v, facts.SessionID)
		}
		if v, there := got[proxyproto.PP2_TYPE_ALPN]; string(v) != state.NegotiatedProtocol || there != (state.NegotiatedProtocol != "") {
			t.Errorf("ALPN %q (%v), want %q", v, there, state.NegotiatedProtocol)
		}
		ssl, err := tlvparse.SSL(proxyproto.TLV{Type: proxyproto.PP2_TYPE_SSL, Value: got[proxyproto.PP2_TYPE_SSL]})
		if err != nil {
			t.Fatalf("SSL: %v", err)
		}
		if ssl.Client != tlvparse.PP2_BITFIELD_CLIENT_SSL || ssl.Verify == 0 {
			t.Errorf("client bits 0x%02x, verify %d: without a verified client certificate, want 0x01 and not 0", ssl.Client, ssl.Verify)
		}
		version, _ := ssl.SSLVersion()
		cipher, _ := ssl.SSLCipher()
		if version+" "+cipher != name {
			t.Errorf("the SSL TLV tells %q and %q, want %q", version, cipher, name)
		}
	}
}

func TestR46_NothingToTellNoTLV(t *testing.T) {
	facts := full()
	facts.TLS, facts.ServerName, facts.SessionID = nil, "", ""
	got := tlvs(t, read(t, encode(t, everything, facts)))
	if _, there := got[proxyproto.PP2_TYPE_CRC32C]; !there || len(got) != 1 {
		t.Errorf("a session in plain text without names has the TLVs %v, want CRC32C alone", got)
	}
	facts = full()
	bare := everything
	bare.TLVs = nil
	if raw := encode(t, bare, facts); len(raw) != 28 {
		t.Errorf("without TLVs the header of IPv4 has %d bytes, want 28", len(raw))
	}
}

func TestProbe(t *testing.T) {
	local, remote := netip.MustParseAddrPort("127.0.0.1:40000"), netip.MustParseAddrPort("127.0.0.1:10025")
	raw, err := proxyheader.Format{Version: 2}.Probe(local, remote)
	if err != nil {
		t.Fatal(err)
	}
	if header := read(t, raw); header.Command != proxyproto.LOCAL || header.Version != 2 {
		t.Errorf("version 2: %+v, want LOCAL", header)
	}
	raw, err = proxyheader.Format{Version: 1}.Probe(local, remote)
	if want := "PROXY TCP4 127.0.0.1 127.0.0.1 40000 10025\r\n"; err != nil || string(raw) != want {
		t.Errorf("version 1: %q, %v; want %q, because Postfix refuses UNKNOWN", raw, err, want)
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, format := range []proxyheader.Format{{Version: 1}, {Version: 2, TLVs: proxyheader.DefaultTLVs}} {
		b.Run(fmt.Sprintf("v%d", format.Version), func(b *testing.B) {
			facts := full()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := format.Encode(facts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
