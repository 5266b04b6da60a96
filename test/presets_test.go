package test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// The TLVs of the PROXY protocol that fill a header here.
const (
	tlvAuthority = 0x02
	tlvNoop      = 0x04
)

// headerOf is a version 2 header of that many bytes, of a client on
// clientAddress; one TLV fills it.
func headerOf(length int, tlv byte) []byte {
	header := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11") // version 2, PROXY; TCP over IPv4
	header = binary.BigEndian.AppendUint16(header, uint16(length-len(header)-2))
	header = append(header, 127, 0, 0, 9, 127, 0, 0, 1, 0x30, 0x39, 0x01, 0xd1) // clientAddress, port 12345, to port 465
	header = append(header, tlv)
	header = binary.BigEndian.AppendUint16(header, uint16(length-len(header)-2))
	return append(header, bytes.Repeat([]byte{'n'}, length-len(header))...)
}

// TestPresets_HoldAtTheirBounds: the real servers take a header of as many bytes
// as their presets say, and not of one more.
func TestPresets_HoldAtTheirBounds(t *testing.T) {
	t.Parallel()
	mx, other := startPostfix(t), startExim(t)
	for _, server := range []struct {
		name, address string
		box           maildir
		bound         int
	}{{"Postfix", mx.proxied, mx.maildir, 536}, {"Exim", other.proxied, other.maildir, 232}} {
		for _, tlv := range []byte{tlvAuthority, tlvNoop} {
			for length, taken := range map[int]bool{server.bound - 1: true, server.bound: true, server.bound + 1: false, server.bound + 100: false} {
				header := headerOf(length, tlv)
				if len(header) != length {
					t.Fatalf("the header has %d bytes, want %d", len(header), length)
				}
				c := dial(t, server.address, "")
				c.mustSend(t, string(header))
				marker := newMarker()
				_, err := c.expect(220)
				if err == nil {
					err = c.sendMessage(marker)
				}
				if (err == nil) != taken {
					t.Errorf("%s, TLV %d: a header of %d bytes is taken: %v (%v), want %v", server.name, tlv, length, err == nil, err, taken)
				}
				if err != nil {
					continue
				}
				if trace, _ := splitTrace(server.box.waitMessage(t, marker)); !strings.Contains(string(trace), "["+clientAddress+"]") {
					t.Errorf("%s: the trace fields do not name the client of the header:\n%s", server.name, trace)
				}
			}
		}
	}
}

// TestPresets_LongServerName: the longest server name, under a wildcard
// certificate and over IPv6, makes the largest header; mail gets through all the
// same. With the preset of Postfix the header tells more than Exim can read.
func TestPresets_LongServerName(t *testing.T) {
	t.Parallel()
	oracle := startAiosmtpd(t)
	mx, other := startPostfix(t), startExim(t)
	certs := newCertificates(t)
	name := serverNameOf(253)
	_, rest, _ := strings.Cut(name, ".")
	if err := certs.ca.WriteFolder(certs.dir, "*."+rest, devcert.Leaf{Names: []string{"*." + rest}}); err != nil {
		t.Fatal(err)
	}
	start := func(address, preset string) *proxy {
		return startProxy(t, setup{
			certificates: certs, backend: address, backendKeys: "preset: " + preset,
			submissions: fmt.Sprintf("[::1]:%d", freePort(t)), submission: fmt.Sprintf("[::1]:%d", freePort(t)),
		})
	}
	for _, test := range []struct {
		preset, address string
		box             maildir
	}{{"postfix", mx.proxied, mx.maildir}, {"exim", other.proxied, other.maildir}, {"generic", mx.proxied, mx.maildir}} {
		p := start(test.address, test.preset)
		for _, port := range p.ports() {
			c := open(t, port, clientOptions{serverName: name, trust: certs})
			if leaf := c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0]; leaf.DNSNames[0] != "*."+rest {
				t.Errorf("port %s: the certificate is of %q", port.name, leaf.DNSNames)
			}
			marker := newMarker()
			if err := c.sendMessage(marker); err != nil {
				c.fatal(t, err)
			}
			if trace, _ := splitTrace(test.box.waitMessage(t, marker)); !strings.Contains(string(trace), "::1]") {
				t.Errorf("%s, port %s: the trace fields do not name the client ::1:\n%s", test.preset, port.name, trace)
			}
		}
	}
	for preset, whole := range map[string]bool{"postfix": true, "exim": false} {
		p := start(oracle.address, preset)
		header, _, _ := deliverTo(t, oracle, p, p.ports()[0], clientOptions{serverName: name, trust: certs})
		authority, found := header.tlv("AUTHORITY")
		if found != whole || whole && authority != name || whole != (header.Length > 232) || header.Length > 536 {
			t.Errorf("%s: the header has %d bytes and AUTHORITY %q", preset, header.Length, authority)
		}
	}
	p := start(other.proxied, "postfix")
	// Exim takes what it left of the header for a command.
	if accepted, err := deliverOnce(p.ports()[0], clientOptions{serverName: name, trust: certs}, newMarker()); accepted || err == nil {
		t.Errorf("Exim took the header that the preset of Postfix makes; this test proves nothing any more")
	}
}
