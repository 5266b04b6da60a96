package test

import (
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// The further alerts that the tests ask for (RFC 8446 section 6.2).
const (
	handshakeFailure    = 40
	badCertificate      = 42
	protocolVersion     = 70
	certificateRequired = 116
)

// option is a row of the table: TLS options as an operator writes them, and
// what openssl s_client then finds, on a listener of each mode.
type option struct {
	name     string
	tls      string
	findings []finding
}

// finding is what one s_client finds: lines of its summary, or an alert.
type finding struct {
	arguments string
	lines     []string
	alert     int
}

// finds and alert make findings.
func finds(arguments string, lines ...string) finding {
	return finding{arguments: arguments, lines: lines}
}

func alert(number int, arguments string) finding {
	return finding{arguments: arguments, alert: number}
}

// old is what OpenSSL 3 wants for TLS 1.0 and 1.1, and for suites that it
// deems weak.
const old = " -cipher DEFAULT@SECLEVEL=0"

// toRSA asks for the folder whose key is RSA; the default's is ECDSA.
const toRSA = " -servername rsa.example"

// withRSA adds the folder rsa.example.
func withRSA(t testing.TB, certs *certificates) *certificates {
	t.Helper()
	if err := certs.ca.WriteFolder(certs.dir, "rsa.example", devcert.Leaf{Names: []string{"rsa.example"}, Key: devcert.RSA2048}); err != nil {
		t.Fatal(err)
	}
	return certs
}

// requireOptions serves a pair of listeners for each row and lets openssl find
// out what it does.
func requireOptions(t *testing.T, rows []option) {
	t.Helper()
	need(t, "openssl")
	s := setup{certificates: withRSA(t, newCertificates(t)), backend: startRecorder(t, withHeader).address}
	for _, row := range rows {
		s.pairs = append(s.pairs, pair{name: row.name, tls: row.tls})
	}
	p := startProxy(t, s)
	for _, row := range rows {
		for _, port := range p.portsOf(t, row.name) {
			t.Run(row.name+"/"+port.name, func(t *testing.T) {
				t.Parallel()
				for _, f := range row.findings {
					requireFinding(t, port, f)
				}
			})
		}
	}
}

func requireFinding(t *testing.T, to port, f finding) {
	t.Helper()
	arguments := strings.Fields(f.arguments)
	if !strings.Contains(f.arguments, "-alpn") { // which the brief summary leaves out
		arguments = append(arguments, "-brief")
	}
	if f.alert != 0 {
		refused(t, to, f.alert, arguments...)
		return
	}
	r := talk(t, to, arguments...)
	for _, line := range f.lines {
		r.requireOutput(t, line+"\n")
	}
}

// TestTLSOptions_Versions: min_version, max_version and the profiles. TLS 1.0
// and 1.1 come by their name or with profile legacy, and not otherwise.
func TestTLSOptions_Versions(t *testing.T) {
	t.Parallel()
	tls10 := finds("-tls1"+old, "Protocol version: TLSv1")
	tls11 := finds("-tls1_1"+old, "Protocol version: TLSv1.1")
	tls12 := finds("-tls1_2", "Protocol version: TLSv1.2", "Ciphersuite: ECDHE-ECDSA-AES128-GCM-SHA256")
	tls13 := finds("-tls1_3", "Protocol version: TLSv1.3", "Ciphersuite: TLS_AES_128_GCM_SHA256")
	no10, no11 := alert(protocolVersion, "-tls1"+old), alert(protocolVersion, "-tls1_1"+old)
	no12, no13 := alert(protocolVersion, "-tls1_2"), alert(protocolVersion, "-tls1_3")
	noForwardSecrecy := "-tls1_2 -cipher AES128-SHA:AES256-SHA:AES128-GCM-SHA256" + toRSA
	requireOptions(t, []option{
		{"default", "", []finding{no10, no11, tls12, tls13, finds("", "Protocol version: TLSv1.3")}},
		{"from-10", "min_version: TLSv1", []finding{tls10, tls11, tls12, tls13}},
		{"from-11", "min_version: TLSv1.1", []finding{no10, tls11, tls12}},
		{"from-12", "min_version: TLSv1.2", []finding{no10, no11, tls12, tls13}},
		{"from-13", "min_version: TLSv1.3", []finding{no11, no12, tls13}},
		{"to-12", "max_version: TLSv1.2", []finding{no11, no13, finds("", "Protocol version: TLSv1.2")}},
		{"only-11", "min_version: TLSv1.1, max_version: TLSv1.1", []finding{no10, tls11, no13}},
		{"modern", "profile: modern", []finding{no10, no11, no12, tls13}},
		{"modern-and-12", "profile: modern, min_version: TLSv1.2", []finding{no11, tls12, tls13}},
		{"intermediate", "profile: intermediate", []finding{no10, no11, tls12, tls13, alert(handshakeFailure, noForwardSecrecy)}},
		{"legacy", "profile: legacy", []finding{tls10, tls11, tls12, tls13, finds(noForwardSecrecy, "Ciphersuite: AES128-GCM-SHA256")}},
	})
}

// TestTLSOptions_Ciphers: an OpenSSL string chooses what can be negotiated, and
// honor_cipher_order whose order holds. openssl sends its suites in the order
// that it is told.
func TestTLSOptions_Ciphers(t *testing.T) {
	t.Parallel()
	const (
		ours   = `ciphers: "ECDHE+AES256+AESGCM:ECDHE+CHACHA20:ECDHE+AES128+AESGCM:kRSA+AES"`
		theirs = "-tls1_2 -cipher AES128-SHA:ECDHE+AESGCM+AES128:ECDHE+CHACHA20:ECDHE+AESGCM+AES256:@SECLEVEL=0"
		swift  = "-tls1_2 -cipher ECDHE+AESGCM+AES128:ECDHE+CHACHA20"
	)
	requireOptions(t, []option{
		{"one-strength", `ciphers: "ECDHE+AESGCM+AES256"`, []finding{
			finds("-tls1_2", "Ciphersuite: ECDHE-ECDSA-AES256-GCM-SHA384"), finds("-tls1_2"+toRSA, "Ciphersuite: ECDHE-RSA-AES256-GCM-SHA384"),
			alert(handshakeFailure, swift), alert(handshakeFailure, swift+toRSA),
			finds("-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256", "Ciphersuite: TLS_CHACHA20_POLY1305_SHA256"), // cannot be chosen
		}},
		{"keywords", `ciphers: "HIGH:!aNULL:!kRSA:!AESGCM:!SHA256:!SHA384:@STRENGTH"`, []finding{
			finds("-tls1_2"+toRSA, "Ciphersuite: ECDHE-RSA-CHACHA20-POLY1305"),
			finds("-tls1_2 -cipher ECDHE+SHA1:@SECLEVEL=0"+toRSA, "Ciphersuite: ECDHE-RSA-AES256-SHA"),
			alert(handshakeFailure, "-tls1_2 -cipher ECDHE+AESGCM"),
		}},
		{"iana-name", `ciphers: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"`, []finding{
			finds("-tls1_2"+toRSA, "Ciphersuite: ECDHE-RSA-CHACHA20-POLY1305"), alert(handshakeFailure, "-tls1_2"),
		}},
		{"rsa-key-exchange", `ciphers: "AES256-SHA"`, []finding{
			finds("-tls1_2 -cipher ALL:@SECLEVEL=0"+toRSA, "Ciphersuite: AES256-SHA"), alert(handshakeFailure, "-tls1_2"+old),
		}},
		{"our-order", ours, []finding{
			finds(theirs, "Ciphersuite: ECDHE-ECDSA-AES256-GCM-SHA384"), finds(theirs+toRSA, "Ciphersuite: ECDHE-RSA-AES256-GCM-SHA384"),
			finds(swift, "Ciphersuite: ECDHE-ECDSA-CHACHA20-POLY1305"), finds(swift+toRSA, "Ciphersuite: ECDHE-RSA-CHACHA20-POLY1305"),
			finds("-tls1_2 -cipher AES128-SHA:AES256-SHA:@SECLEVEL=0"+toRSA, "Ciphersuite: AES256-SHA"),
		}},
		{"their-order", ours + ", honor_cipher_order: false", []finding{
			finds(theirs, "Ciphersuite: ECDHE-ECDSA-AES128-GCM-SHA256"), finds(theirs+toRSA, "Ciphersuite: AES128-SHA"),
			finds(swift, "Ciphersuite: ECDHE-ECDSA-AES128-GCM-SHA256"), finds(swift+toRSA, "Ciphersuite: ECDHE-RSA-AES128-GCM-SHA256"),
		}},
		{"our-order-10", `min_version: TLSv1, ciphers: "ECDHE+AES256:ECDHE+AES128"`, []finding{
			finds("-tls1 -cipher ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0", "Ciphersuite: ECDHE-ECDSA-AES256-SHA"),
			finds("-tls1 -cipher ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA:@SECLEVEL=0"+toRSA, "Ciphersuite: ECDHE-RSA-AES256-SHA"),
		}},
	})
}

// TestTLSOptions_Curves: auto, or a list in either spelling whose order is
// held to also where the client has to be asked for another key share.
func TestTLSOptions_Curves(t *testing.T) {
	t.Parallel()
	const (
		x25519 = "Server Temp Key: X25519, 253 bits"
		p256   = "Server Temp Key: ECDH, prime256v1, 256 bits"
		p384   = "Server Temp Key: ECDH, secp384r1, 384 bits"
		p521   = "Server Temp Key: ECDH, secp521r1, 521 bits"
	)
	inOrder := []finding{
		finds("-tls1_2 -groups X25519:P-256:P-384", p384), finds("-tls1_3 -groups X25519:P-256:P-384", p384),
		finds("-tls1_2 -groups X25519:P-256", p256), finds("-tls1_3 -curves X25519:P-256", p256),
		alert(handshakeFailure, "-tls1_2 -groups X25519:P-521"), alert(handshakeFailure, "-tls1_3 -groups X25519:P-521"),
	}
	requireOptions(t, []option{
		{"auto", "curves: auto", []finding{
			finds("-tls1_3", x25519), finds("-tls1_2 -groups P-384:X25519:P-256", p384), finds("-tls1_3 -groups P-521", p521),
		}},
		{"list", "curves: [P-384, P-256]", inOrder},
		{"list-as-openssl", "curves: [secp384r1, prime256v1]", inOrder},
		{"list-as-text", `curves: "secp384r1:P-256"`, inOrder},
		{"x25519-last", "curves: [P-521, X25519]", []finding{finds("-tls1_3", p521), finds("-tls1_3 -groups X25519:P-256", x25519)}},
	})
}

// TestTLSOptions_ALPN: names of mail alone, none at all, or those of a list.
// Clients that offer none are welcome everywhere.
func TestTLSOptions_ALPN(t *testing.T) {
	t.Parallel()
	const none = "No ALPN negotiated"
	inBoth := func(of func(version string) []finding) []finding {
		return slices.Concat(of("-tls1_2 "), of("-tls1_3 "))
	}
	requireOptions(t, []option{
		{"strict", "alpn: strict", inBoth(func(v string) []finding {
			return []finding{
				finds(v + "-brief"), finds(v+"-alpn smtp", "ALPN protocol: smtp"), finds(v+"-alpn h2,submission", "ALPN protocol: submission"),
				alert(noApplicationProtos, v+"-alpn h2,http/1.1"),
			}
		})},
		{"off", "alpn: off", inBoth(func(v string) []finding {
			return []finding{finds(v + "-brief"), finds(v+"-alpn smtp", none), finds(v+"-alpn h2,http/1.1", none)}
		})},
		{"list", "alpn: [lmtp, smtp]", inBoth(func(v string) []finding {
			return []finding{
				finds(v + "-brief"), finds(v+"-alpn smtp", "ALPN protocol: smtp"), finds(v+"-alpn smtp,lmtp", "ALPN protocol: lmtp"),
				alert(noApplicationProtos, v+"-alpn submission"),
			}
		})},
	})
}
