package proxyheader_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/pires/go-proxyproto"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
)

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// What byte 13 and byte 14 of version 2 say.
const (
	cmdLocal, cmdProxy   = "\x20", "\x21"
	unspec, tcp4, udp4   = "\x00", "\x11", "\x12"
	tcp6, unix, reserved = "\x21", "\x31", "\x13"
)

var (
	block4 = "\xc6\x33\x64\x07\xc0\x00\x02\x01\x12\x67\x01\xd1" // 198.51.100.7:4711 to 192.0.2.1:465
	ip6    = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	block6 = ip6 + "\x07" + ip6 + "\x01\x12\x67\x01\xd1"
	mapped = strings.Repeat("\x00", 10) + "\xff\xff"
	mixed6 = mapped + "\xc6\x33\x64\x07" + ip6 + "\x01\x12\x67\x01\xd1"
	both6  = mapped + "\xc6\x33\x64\x07" + mapped + "\xc0\x00\x02\x01\x12\x67\x01\xd1"
)

// v2 makes a header of version 2 with a right length.
func v2(command, family, rest string) string {
	return signature + command + family + string(binary.BigEndian.AppendUint16(nil, uint16(len(rest)))) + rest
}

func tlv(kind byte, value string) string {
	return string([]byte{kind}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(value)))) + value
}

const empty = "\x00\x00\x00\x00" // a checksum that is not there yet

// sealed puts the checksum in place of the first empty one.
func sealed(header string) string {
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum([]byte(header), crc32.MakeTable(crc32.Castagnoli)))
	return strings.Replace(header, tlv(0x03, empty), tlv(0x03, string(sum)), 1)
}

// flipped has one bit of a byte changed, counted from the end if negative.
func flipped(header string, at int) string {
	raw := []byte(header)
	raw[(at+len(raw))%len(raw)] ^= 1
	return string(raw)
}

// pieces are ways in which a header may come.
var pieces = map[string]func(io.Reader) io.Reader{
	"at once":      func(r io.Reader) io.Reader { return r },
	"byte by byte": iotest.OneByteReader,
	"half by half": iotest.HalfReader,
}

// next is what follows a header. Its beginning is that of a second one.
const next = "PROXY TCP4 192.0.2.66 192.0.2.1 1 2\r\nEHLO client.example\r\n"

// readAll reads a header that comes in every way, and gives what is common to
// all. Not a byte behind the header may be taken.
func readAll(t *testing.T, raw string) (proxyheader.Ends, error) {
	t.Helper()
	var ends proxyheader.Ends
	var failed error
	for way, in := range pieces {
		source := strings.NewReader(raw + next)
		got, err := proxyheader.Read(in(source))
		if err == nil && source.Len() != len(next) {
			t.Errorf("%s: %d bytes are left, want %d", way, source.Len(), len(next))
		}
		ends, failed = got, err
	}
	for way, in := range pieces {
		if got, err := proxyheader.Read(in(strings.NewReader(raw + next))); got != ends || (err == nil) != (failed == nil) {
			t.Errorf("%s: %v, %v; another way %v, %v", way, got, err, ends, failed)
		}
	}
	return ends, failed
}

func TestR53_Read(t *testing.T) {
	const v4 = "198.51.100.7:4711 192.0.2.1:465"
	for _, c := range []struct{ name, raw, want string }{
		{"v1 TCP4", "PROXY TCP4 198.51.100.7 192.0.2.1 4711 465\r\n", v4},
		{"v1 TCP6", "PROXY TCP6 2001:db8::7 2001:db8::1 4711 465\r\n", "[2001:db8::7]:4711 [2001:db8::1]:465"},
		{"v1 TCP6 in full", "PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0007 2001:db8::1 4711 465\r\n", "[2001:db8::7]:4711 [2001:db8::1]:465"},
		{"v1 mapped", "PROXY TCP6 ::ffff:198.51.100.7 ::ffff:192.0.2.1 4711 465\r\n", v4},
		{"v1 one end mapped", "PROXY TCP6 ::ffff:198.51.100.7 2001:db8::1 4711 465\r\n", "198.51.100.7:4711 [2001:db8::1]:465"},
		{"v1 ports", "PROXY TCP4 198.51.100.7 192.0.2.1 0 65535\r\n", "198.51.100.7:0 192.0.2.1:65535"},
		{"v1 shortest", "PROXY TCP6 ::1 ::1 1 1\r\n", "[::1]:1 [::1]:1"},
		{"v1 UNKNOWN", "PROXY UNKNOWN\r\n", ""},
		{"v1 UNKNOWN with addresses", "PROXY UNKNOWN 198.51.100.7 192.0.2.1 4711 465\r\n", ""},
		{"v1 UNKNOWN with the most bytes", "PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", ""},
		{"v1 UNKNOWN with a lone CR", "PROXY UNKNOWN a\rb\r\r\n", ""},
		{"v2 TCP4", v2(cmdProxy, tcp4, block4), v4},
		{"v2 TCP6", v2(cmdProxy, tcp6, block6), "[2001:db8::7]:4711 [2001:db8::1]:465"},
		{"v2 mapped", v2(cmdProxy, tcp6, both6), v4},
		{"v2 one end mapped", v2(cmdProxy, tcp6, mixed6), "198.51.100.7:4711 [2001:db8::1]:465"},
		{"v2 with TLVs", v2(cmdProxy, tcp4, block4+tlv(0x02, "a.example")+tlv(0xea, "")), v4},
		{"v2 with an empty TLV at the end", v2(cmdProxy, tcp4, block4+tlv(0x20, "")), v4},
		{"v2 UNIQUE_ID of full length", v2(cmdProxy, tcp4, block4+tlv(0x05, strings.Repeat("i", 128))), v4},
		{"v2 of the most bytes", v2(cmdProxy, tcp4, block4+tlv(0xe0, strings.Repeat("x", 4096-12-3))), v4},
		{"v2 checksum", sealed(v2(cmdProxy, tcp4, block4+tlv(0x03, empty))), v4},
		{"v2 checksum, TCP6", sealed(v2(cmdProxy, tcp6, block6+tlv(0x02, "a.example")+tlv(0x03, empty)+tlv(0xe1, "x"))), "[2001:db8::7]:4711 [2001:db8::1]:465"},
		{"v2 checksum behind padding", sealed(v2(cmdProxy, tcp4, block4+tlv(0x04, "xxxxx")+tlv(0x03, empty)+tlv(0x04, ""))), v4},
		{"v2 LOCAL", v2(cmdLocal, unspec, ""), ""},
		{"v2 LOCAL with addresses", v2(cmdLocal, tcp4, block4), ""},
		{"v2 LOCAL with TLVs and checksum", sealed(v2(cmdLocal, unspec, tlv(0x03, empty))), ""},
		{"v2 LOCAL with a block too short", v2(cmdLocal, tcp4, "x"), ""},
		{"v2 LOCAL with a broken TLV", v2(cmdLocal, tcp4, block4+"\x02\x00\x05a"), ""},
		{"v2 LOCAL of a UNIX socket", v2(cmdLocal, unix, strings.Repeat("\x00", 216)), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ends, err := readAll(t, c.raw)
			if err != nil {
				t.Fatal(err)
			}
			if ends.Own() != (c.want == "") || !ends.Own() && ends.Client.String()+" "+ends.Local.String() != c.want {
				t.Errorf("%v, want %q", ends, c.want)
			}
		})
	}
}

func TestR52_ReadRefuses(t *testing.T) {
	checksum := sealed(v2(cmdProxy, tcp4, block4+tlv(0x03, empty)))
	for _, c := range []struct {
		name, raw string
		want      error
	}{
		{"SMTP", "EHLO client.example\r\n", proxyheader.ErrMissing},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", proxyheader.ErrMissing},
		{"one CRLF", "\r\nEHLO client.example\r\n", proxyheader.ErrMissing},
		{"v1 in lower case", "proxy TCP4 198.51.100.7 192.0.2.1 4711 465\r\n", proxyheader.ErrMissing},
		{"v1 with a space before", " PROXY TCP4 198.51.100.7 192.0.2.1 4711 465\r\n", proxyheader.ErrMissing},
		{"v1 with a tab", "PROXY\tTCP4 198.51.100.7 192.0.2.1 4711 465\r\n", proxyheader.ErrMissing},
		{"v1 with a word glued on", "PROXYX TCP4 198.51.100.7 192.0.2.1 4711 465\r\n", proxyheader.ErrMissing},
		{"v2 with a wrong signature", "\r\n\r\n\x00\r\nQUIT\r" + v2(cmdProxy, tcp4, block4)[12:], proxyheader.ErrMissing},

		{"v1 without CR", "PROXY TCP4 198.51.100.7 192.0.2.1 4711 465\n", proxyheader.ErrMalformed},
		{"v1 with two spaces", "PROXY TCP4  198.51.100.7 192.0.2.1 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 with a space at the end", "PROXY TCP4 198.51.100.7 192.0.2.1 4711 465 \r\n", proxyheader.ErrMalformed},
		{"v1 with one word more", "PROXY TCP4 198.51.100.7 192.0.2.1 4711 465 x\r\n", proxyheader.ErrMalformed},
		{"v1 without ports", "PROXY TCP4 198.51.100.7 192.0.2.1\r\n", proxyheader.ErrMalformed},
		{"v1 with nothing", "PROXY       \r\n", proxyheader.ErrMalformed},
		{"v1 UDP4", "PROXY UDP4 198.51.100.7 192.0.2.1 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 UNKNOWNS", "PROXY UNKNOWNS\r\n", proxyheader.ErrMalformed},
		{"v1 port with a zero before", "PROXY TCP4 198.51.100.7 192.0.2.1 04711 465\r\n", proxyheader.ErrMalformed},
		{"v1 port with a sign", "PROXY TCP4 198.51.100.7 192.0.2.1 +471 465\r\n", proxyheader.ErrMalformed},
		{"v1 port too large", "PROXY TCP4 198.51.100.7 192.0.2.1 65536 465\r\n", proxyheader.ErrMalformed},
		{"v1 address with a zero before", "PROXY TCP4 198.51.100.07 192.0.2.1 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 address out of range", "PROXY TCP4 198.51.100.256 192.0.2.1 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 host name", "PROXY TCP4 localhost 192.0.2.1 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 IPv6 in TCP4", "PROXY TCP4 2001:db8::7 2001:db8::1 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 IPv4 in TCP6", "PROXY TCP6 198.51.100.7 192.0.2.1 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 fe80::2 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 no client's address", "PROXY TCP4 0.0.0.0 192.0.2.1 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 multicast", "PROXY TCP6 ff02::1 2001:db8::1 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 mapped, no client's address", "PROXY TCP6 ::ffff:0.0.0.0 ::1 4711 465\r\n", proxyheader.ErrMalformed},
		{"v1 too long", "PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n", proxyheader.ErrMalformed},
		{"v1 without end", "PROXY UNKNOWN " + strings.Repeat("f", 4000), proxyheader.ErrMalformed},

		{"v2 version 1", v2("\x11", tcp4, block4), proxyheader.ErrMalformed},
		{"v2 version 3", v2("\x31", tcp4, block4), proxyheader.ErrMalformed},
		{"v2 unknown command", v2("\x22", tcp4, block4), proxyheader.ErrMalformed},
		{"v2 UNSPEC", v2(cmdProxy, unspec, ""), proxyheader.ErrMalformed},
		{"v2 UDP", v2(cmdProxy, udp4, block4), proxyheader.ErrMalformed},
		{"v2 UNIX", v2(cmdProxy, unix, strings.Repeat("\x00", 216)), proxyheader.ErrMalformed},
		{"v2 reserved family", v2(cmdProxy, reserved, block4), proxyheader.ErrMalformed},
		{"v2 LOCAL of a reserved family", v2(cmdLocal, reserved, block4), proxyheader.ErrMalformed},
		{"v2 TCP4 too short", v2(cmdProxy, tcp4, block4[:11]), proxyheader.ErrMalformed},
		{"v2 TCP6 with IPv4", v2(cmdProxy, tcp6, block4), proxyheader.ErrMalformed},
		{"v2 no client's address", v2(cmdProxy, tcp4, strings.Repeat("\x00", 12)), proxyheader.ErrMalformed},
		{"v2 too long", v2(cmdProxy, tcp4, block4+tlv(0xe0, strings.Repeat("x", 4096-12-2))), proxyheader.ErrMalformed},
		{"v2 LOCAL too long", v2(cmdLocal, tcp4, strings.Repeat("x", 4097)), proxyheader.ErrMalformed},
		{"v2 TLV without length", v2(cmdProxy, tcp4, block4+"\x02"), proxyheader.ErrMalformed},
		{"v2 TLV with half a length", v2(cmdProxy, tcp4, block4+"\x02\x00"), proxyheader.ErrMalformed},
		{"v2 TLV longer than the header", v2(cmdProxy, tcp4, block4+"\x02\x00\x05abcd"), proxyheader.ErrMalformed},
		{"v2 UNIQUE_ID too long", v2(cmdProxy, tcp4, block4+tlv(0x05, strings.Repeat("i", 129))), proxyheader.ErrMalformed},
		{"v2 wrong checksum", flipped(checksum, -1), proxyheader.ErrMalformed},
		{"v2 client changed behind the checksum", flipped(checksum, 16), proxyheader.ErrMalformed},
		{"v2 made LOCAL behind the checksum", flipped(checksum, 12), proxyheader.ErrMalformed},
		{"v2 checksum of two bytes", v2(cmdProxy, tcp4, block4+tlv(0x03, "\x00\x00")), proxyheader.ErrMalformed},
		{"v2 two checksums", v2(cmdProxy, tcp4, block4+tlv(0x03, empty)+tlv(0x03, empty)), proxyheader.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if ends, err := readAll(t, c.raw); !errors.Is(err, c.want) || ends != (proxyheader.Ends{}) {
				t.Errorf("%v, %v; want %v", ends, err, c.want)
			}
		})
	}
}

// TestReadTellsBrokenConnections from headers: a health check that only
// connects is no fault of anybody's.
func TestReadTellsBrokenConnections(t *testing.T) {
	whole := v2(cmdProxy, tcp4, block4)
	for _, c := range []struct {
		name, raw string
		err, want error
	}{
		{"closed", "", io.EOF, io.EOF},
		{"reset", "", syscall.ECONNRESET, syscall.ECONNRESET},
		{"silent", "", os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
		{"closed within the signature", whole[:5], io.EOF, proxyheader.ErrMalformed},
		{"closed within v1", "PROXY TCP4 198.51.100.7", io.EOF, proxyheader.ErrMalformed},
		{"closed before the length", whole[:14], io.EOF, proxyheader.ErrMalformed},
		{"closed before the addresses", whole[:16], io.EOF, proxyheader.ErrMalformed},
		{"closed within the addresses", whole[:27], io.EOF, proxyheader.ErrMalformed},
		{"silent within v1", "PROXY TCP4 198.51.100.7", os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
		{"silent within v2", whole[:27], os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
		{"SMTP, and waits", "EHLO x\r\n", errors.New("read on after the first byte told"), proxyheader.ErrMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			for way, in := range pieces {
				_, err := proxyheader.Read(in(io.MultiReader(strings.NewReader(c.raw), iotest.ErrReader(c.err))))
				if !errors.Is(err, c.want) || c.want == io.EOF && errors.Is(err, proxyheader.ErrMalformed) {
					t.Errorf("%s: %v, want %v", way, err, c.want)
				}
			}
		})
	}
}

// TestReadUnderstandsEncode: what this package writes it reads.
func TestReadUnderstandsEncode(t *testing.T) {
	for _, version := range []int{1, 2} {
		format := everything
		format.Version = version
		facts := full()
		ends, err := readAll(t, string(encode(t, format, facts)))
		if err != nil || ends != (proxyheader.Ends{Client: facts.Client, Local: facts.Local}) {
			t.Errorf("version %d: %v, %v", version, ends, err)
		}
	}
}

// FuzzRead holds that a header is read in the same way however it comes, that
// not a byte behind it is taken, that no more is read than the longest has,
// that go-proxyproto agrees to what is accepted, and that its client can be
// told to a backend.
func FuzzRead(f *testing.F) {
	for _, raw := range []string{
		"PROXY TCP4 198.51.100.7 192.0.2.1 4711 465\r\n" + next, "PROXY UNKNOWN\r\n", "EHLO client.example\r\n",
		v2(cmdProxy, tcp6, block6+tlv(0x04, "xx")) + next, v2(cmdLocal, tcp4, "x"),
		sealed(v2(cmdProxy, tcp4, block4+tlv(0x03, empty))),
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		source := bytes.NewReader(raw)
		ends, err := proxyheader.Read(source)
		slow := bytes.NewReader(raw)
		if got, failed := proxyheader.Read(iotest.OneByteReader(slow)); got != ends || (failed == nil) != (err == nil) || err == nil && slow.Len() != source.Len() {
			t.Fatalf("at once %v, %v with %d bytes left; byte by byte %v, %v with %d", ends, err, source.Len(), got, failed, slow.Len())
		}
		if taken := len(raw) - source.Len(); taken > 16+4096 {
			t.Fatalf("took %d bytes", taken)
		}
		if err != nil {
			if ends != (proxyheader.Ends{}) {
				t.Fatalf("%v with %v", err, ends)
			}
			return
		}
		header := raw[:len(raw)-source.Len()]
		reader := bufio.NewReader(bytes.NewReader(header))
		theirs, failed := proxyproto.Read(reader)
		if failed != nil || reader.Buffered() != 0 || theirs.Command.IsLocal() != ends.Own() {
			t.Fatalf("%q is accepted; go-proxyproto has %+v, %v with %d bytes left", header, theirs, failed, reader.Buffered())
		}
		if ends.Own() {
			return
		}
		if plain(theirs.SourceAddr) != ends.Client || plain(theirs.DestinationAddr) != ends.Local {
			t.Fatalf("%q: %v, go-proxyproto has %+v", header, ends, theirs)
		}
		again, failed := proxyheader.Read(bytes.NewReader(encode(t, everything, proxyheader.Facts{Client: ends.Client, Local: ends.Local})))
		if failed != nil || again != ends || ends.Client != unzoned(ends.Client) || ends.Client.Addr() == (netip.Addr{}) {
			t.Fatalf("%v becomes %v, %v", ends, again, failed)
		}
	})
}
