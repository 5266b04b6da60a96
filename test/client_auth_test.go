package test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// unknownAuthority and certificateExpired are alerts of RFC 8446 section 6.2.
const (
	certificateExpired = 45
	unknownAuthority   = 48
)

// credential is a client's certificate as files for openssl.
type credential struct {
	commonName string
	arguments  []string
	pin        string
}

// newCredential issues one.
func newCredential(t testing.TB, ca *devcert.CA, leaf devcert.Leaf) credential {
	t.Helper()
	certPEM, keyPEM, err := ca.Issue(leaf)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(certPEM)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	dir, sum := t.TempDir(), sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	c := credential{
		commonName: cert.Subject.CommonName,
		arguments:  []string{"-cert", filepath.Join(dir, "client.pem"), "-key", filepath.Join(dir, "client.key")},
		pin:        "sha256/" + base64.StdEncoding.EncodeToString(sum[:]),
	}
	writeFile(t, c.arguments[1], string(certPEM))
	writeFile(t, c.arguments[3], string(keyPEM))
	return c
}

// clients are those that the modes of client_auth tell apart.
type clients struct {
	none, known, other, expired, stranger credential

	caFile string // of all but the stranger
}

func newClients(t testing.TB) clients {
	t.Helper()
	ca, err := devcert.NewCA("Authority of the clients")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := devcert.NewCA("Authority that nobody named")
	if err != nil {
		t.Fatal(err)
	}
	c := clients{caFile: filepath.Join(t.TempDir(), "clients.pem")}
	writeFile(t, c.caFile, string(ca.PEM()))
	c.known = newCredential(t, ca, devcert.Leaf{Names: []string{"known.client.test"}})
	c.other = newCredential(t, ca, devcert.Leaf{Names: []string{"other.client.test"}, Key: devcert.RSA2048})
	c.expired = newCredential(t, ca, devcert.Leaf{Names: []string{"expired.client.test"}, NotBefore: time.Now().AddDate(0, -2, 0), Lifetime: time.Hour})
	c.stranger = newCredential(t, foreign, devcert.Leaf{Names: []string{"stranger.client.test"}})
	return c
}

// outcome is what becomes of a client: the alerts of TLS 1.2 and 1.3 that
// refuse it, or whether the backend hears that it was verified.
type outcome struct {
	client   credential
	alerts   [2]int // zero: it passes
	verified bool
}

func (c credential) refusedWith(tls12, tls13 int) outcome {
	return outcome{client: c, alerts: [2]int{tls12, tls13}}
}
func (c credential) passes() outcome     { return outcome{client: c} }
func (c credential) isVerified() outcome { return outcome{client: c, verified: true} }

// TestClientAuth: each mode with an authority, pins and both; who is let in,
// with which alert and reason the others are refused, and what the backend is
// told, which aiosmtpd reads.
func TestClientAuth(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	oracle := startAiosmtpd(t)
	c := newClients(t)
	absent := c.none.refusedWith(handshakeFailure, certificateRequired)
	unknown := c.stranger.refusedWith(unknownAuthority, unknownAuthority)
	expired := c.expired.refusedWith(certificateExpired, certificateExpired)
	by := func(mode string, keys ...string) string {
		return "client_auth: {" + strings.Join(append([]string{"mode: " + mode}, keys...), ", ") + "}"
	}
	ca := fmt.Sprintf("ca: %q", c.caFile)
	pin := func(c credential) string { return fmt.Sprintf("pins: [%q]", c.pin) }
	mismatch := func(c credential) outcome { return c.refusedWith(badCertificate, badCertificate) }
	rows := []struct {
		name     string
		tls      string
		outcomes []outcome
	}{
		{"none", by("none", ca), []outcome{c.none.passes(), c.known.passes(), c.stranger.passes()}},
		{"request", by("request", ca), []outcome{c.none.passes(), c.known.isVerified(), c.stranger.passes(), c.expired.passes()}},
		{"request-nothing", by("request"), []outcome{c.none.passes(), c.known.passes()}},
		{"require-any", by("require_any", ca), []outcome{absent, c.known.isVerified(), c.stranger.passes()}},
		{"verify-if-given", by("verify_if_given", ca), []outcome{c.none.passes(), c.known.isVerified(), unknown, expired}},
		{"require", by("require", ca), []outcome{absent, c.known.isVerified(), c.other.isVerified(), unknown, expired}},
		{"require-pin", by("require", pin(c.stranger)), []outcome{absent, c.stranger.isVerified(), mismatch(c.known)}},
		{"require-both", by("require", ca, pin(c.other)), []outcome{absent, c.other.isVerified(), mismatch(c.known), unknown}},
		{"if-given-pin", by("verify_if_given", pin(c.known)), []outcome{c.none.passes(), c.known.isVerified(), mismatch(c.other)}},
		{"request-pin", by("request", pin(c.known)), []outcome{c.none.passes(), c.known.isVerified(), c.other.passes()}},
	}
	s := setup{certificates: newCertificates(t), backend: oracle.address}
	for _, row := range rows {
		s.pairs = append(s.pairs, pair{name: row.name, tls: row.tls})
	}
	p := startProxy(t, s)
	for _, row := range rows {
		for _, port := range p.portsOf(t, row.name) {
			t.Run(row.name+"/"+port.name, func(t *testing.T) {
				t.Parallel()
				for _, outcome := range row.outcomes {
					requireOutcome(t, oracle, port, outcome)
				}
				requireClientReasons(t, p, port, row.outcomes)
			})
		}
	}
}

func requireOutcome(t *testing.T, oracle *aiosmtpd, to port, want outcome) {
	t.Helper()
	for i, version := range []string{"-tls1_2", "-tls1_3"} {
		arguments := append([]string{version}, want.client.arguments...)
		if want.alerts[i] != 0 {
			refused(t, to, want.alerts[i], arguments...)
			continue
		}
		marker := newMarker()
		r := runFed(t, strings.NewReader(script(marker)), "openssl", sClientArguments(to, arguments)...)
		r.requireCode(t, 0)
		header, _ := oracle.waitSession(t, marker)
		told := map[string]string{"SSL_CLIENT": "1", "SSL_VERIFY": "1", "SSL_CN": "<nil>"}
		if want.verified { // bits: TLS, and a certificate on this connection and in this session
			told = map[string]string{"SSL_CLIENT": "7", "SSL_VERIFY": "0", "SSL_CN": want.client.commonName}
		}
		for name, value := range told {
			if got, _ := header.tlv(name); got != value {
				t.Errorf("%s of %q: TLV %s is %s, want %s", version, want.client.commonName, name, got, value)
			}
		}
	}
}

// script is a session that sends a message, as a client's input.
func script(marker string) string {
	return "EHLO " + marker + "\r\nMAIL FROM:<sender@client.test>\r\nRCPT TO:<user@a.example>\r\nDATA\r\nSubject: " + marker + "\r\n\r\ntext\r\n.\r\nQUIT\r\n"
}

// requireClientReasons wants the refused ones in the metrics, without a
// certificate and with a bad one apart.
func requireClientReasons(t *testing.T, p *proxy, to port, outcomes []outcome) {
	t.Helper()
	required, bad := 0, 0
	for _, o := range outcomes {
		switch {
		case o.alerts[0] == 0:
		case len(o.client.arguments) == 0:
			required += 2 // versions of TLS
		default:
			bad += 2
		}
	}
	p.waitMetric(t, handshakeFailures(to.listener, "client_cert_required"), fmt.Sprint(required))
	p.waitMetric(t, handshakeFailures(to.listener, "client_cert_bad"), fmt.Sprint(bad))
}
