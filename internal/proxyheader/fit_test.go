package proxyheader_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
)

// tlvTypes are the TLVs in the order in which everything lists them.
var tlvTypes = map[proxyheader.TLV]proxyproto.PP2Type{
	proxyheader.SSL:       proxyproto.PP2_TYPE_SSL,
	proxyheader.Authority: proxyproto.PP2_TYPE_AUTHORITY,
	proxyheader.UniqueID:  proxyproto.PP2_TYPE_UNIQUE_ID,
	proxyheader.CRC32C:    proxyproto.PP2_TYPE_CRC32C,
	proxyheader.ALPN:      proxyproto.PP2_TYPE_ALPN,
}

// typesIn lists the TLVs of a header of IPv4 in their order.
func typesIn(t *testing.T, raw []byte) []proxyproto.PP2Type {
	t.Helper()
	list, err := read(t, raw).TLVs()
	if err != nil {
		t.Fatal(err)
	}
	var types []proxyproto.PP2Type
	for _, tlv := range list {
		types = append(types, tlv.Type)
	}
	return types
}

// TestTLVsFitAtEachBoundary tries every limit around the length at which one
// TLV more finds room: exactly that length has it, one byte less has not. SSL
// has room before all others, wherever it is listed.
func TestTLVsFitAtEachBoundary(t *testing.T) {
	facts := full()
	const bare = 28 // signature 12, command 1, family 1, length 2, addresses and ports 12
	sizes := map[proxyheader.TLV]int{
		proxyheader.SSL:       3 + 1 + 4 + (3 + len("TLSv1.3")) + (3 + len("TLS_AES_128_GCM_SHA256")),
		proxyheader.Authority: 3 + len(facts.ServerName),
		proxyheader.UniqueID:  3 + len(facts.SessionID),
		proxyheader.CRC32C:    3 + 4,
		proxyheader.ALPN:      3 + len("smtp"),
	}
	for _, order := range [][]proxyheader.TLV{
		everything.TLVs,
		{proxyheader.ALPN, proxyheader.CRC32C, proxyheader.SSL, proxyheader.UniqueID, proxyheader.Authority},
	} {
		rest := slices.DeleteFunc(slices.Clone(order), func(name proxyheader.TLV) bool { return name == proxyheader.SSL })
		length := bare + sizes[proxyheader.SSL]
		for kept := range len(rest) + 1 {
			var want []proxyproto.PP2Type
			for _, name := range order {
				if name == proxyheader.SSL || slices.Contains(rest[:kept], name) {
					want = append(want, tlvTypes[name])
				}
			}
			limits := []int{length}
			if kept < len(rest) {
				limits = append(limits, length+sizes[rest[kept]]-1)
			}
			for _, limit := range limits {
				raw := encode(t, proxyheader.Format{Version: 2, TLVs: order, MaxBytes: limit}, facts)
				if got := typesIn(t, raw); !slices.Equal(got, want) || len(raw) != length {
					t.Errorf("at most %d bytes: %d bytes with the TLVs %x, want %d with %x", limit, len(raw), got, length, want)
				}
			}
			if kept < len(rest) {
				length += sizes[rest[kept]]
			}
		}
	}
}

// TestR46_CertificateBitsOnlyWhenVerified: what a client merely shows is no
// identity, and the name of a verified one gives way where it has no room.
func TestR46_CertificateBitsOnlyWhenVerified(t *testing.T) {
	const onConnection, inSession = tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN, tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
	for _, test := range []struct {
		name     string
		verified bool
		resumed  bool
		cn       string
		bits     uint8
		verify   uint32
		wantCN   string
	}{
		{"none", false, false, "", 0, 1, ""},
		{"not verified", false, false, "alice", 0, 1, ""},
		{"verified", true, false, "alice", onConnection | inSession, 0, "alice"},
		{"verified and resumed", true, true, "alice", inSession, 0, "alice"},
		{"verified without a name", true, false, "", onConnection | inSession, 0, ""},
		{"a name without room", true, false, strings.Repeat("n", 200), onConnection | inSession, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			facts := full()
			state := *facts.TLS
			state.DidResume = test.resumed
			facts.TLS, facts.Verified, facts.CommonName = &state, test.verified, test.cn
			raw := encode(t, proxyheader.Format{Version: 2, TLVs: proxyheader.DefaultTLVs}, facts)
			list, err := read(t, raw).TLVs()
			if err != nil {
				t.Fatal(err)
			}
			ssl, found := tlvparse.FindSSL(list)
			cn, _ := ssl.ClientCN()
			if !found || ssl.Client != tlvparse.PP2_BITFIELD_CLIENT_SSL|test.bits || ssl.Verify != test.verify || cn != test.wantCN {
				t.Errorf("found %v, bits %#x, verify %d, name %q", found, ssl.Client, ssl.Verify, cn)
			}
			if len(raw) > proxyheader.DefaultMaxBytes {
				t.Errorf("%d bytes", len(raw))
			}
		})
	}
}

// TestMinMaxBytesHoldsSSL holds what the constant promises: with the longest
// addresses and the longest cipher name, TLS is still told.
func TestMinMaxBytesHoldsSSL(t *testing.T) {
	facts := full()
	facts.Client, facts.Local = unzonedV6, unzonedV6
	for _, state := range everySuite() {
		facts.TLS = state
		raw := encode(t, proxyheader.Format{Version: 2, TLVs: proxyheader.DefaultTLVs, MaxBytes: proxyheader.MinMaxBytes}, facts)
		if types := typesIn(t, raw); !slices.Contains(types, proxyproto.PP2_TYPE_SSL) {
			t.Errorf("no SSL TLV in %d bytes with %#04x", len(raw), state.CipherSuite)
		}
	}
}

// TestCRC32C compares the checksum with one computed bit by bit, which shares
// no table with the code under test.
func TestCRC32C(t *testing.T) {
	if got := crc32c([]byte("123456789")); got != 0xE3069283 {
		t.Fatalf("the test's own CRC32c gives %#x for the check value of RFC 3720", got)
	}
	for position := range everything.TLVs {
		order := slices.DeleteFunc(slices.Clone(everything.TLVs), func(n proxyheader.TLV) bool { return n == proxyheader.CRC32C })
		order = slices.Insert(order, position, proxyheader.CRC32C)
		t.Run(fmt.Sprintf("position %d", position), func(t *testing.T) {
			raw := encode(t, proxyheader.Format{Version: 2, TLVs: order, MaxBytes: maxPostfix}, full())
			requireChecksum(t, raw, 28)
		})
	}
}

// requireChecksum holds that the checksum of a header, whose TLVs begin at an
// offset, is right.
func requireChecksum(t *testing.T, raw []byte, at int) {
	t.Helper()
	for at < len(raw) {
		size := int(binary.BigEndian.Uint16(raw[at+1:]))
		if raw[at] != byte(proxyproto.PP2_TYPE_CRC32C) {
			at += 3 + size
			continue
		}
		told := binary.BigEndian.Uint32(raw[at+3:])
		zeroed := slices.Clone(raw)
		clear(zeroed[at+3 : at+7])
		if want := crc32c(zeroed); size != 4 || told != want {
			t.Errorf("CRC32C of %d bytes is %#08x, want %#08x", size, told, want)
		}
		return
	}
	t.Error("the header has no CRC32C")
}

// crc32c is the definition of CRC32c: the reflected polynomial 0x1EDC6F41.
func crc32c(data []byte) uint32 {
	crc := ^uint32(0)
	for _, b := range data {
		crc ^= uint32(b)
		for range 8 {
			if crc&1 == 1 {
				crc = crc>>1 ^ 0x82F63B78
			} else {
				crc >>= 1
			}
		}
	}
	return ^crc
}
