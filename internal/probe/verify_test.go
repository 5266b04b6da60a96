package probe_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/probe"
)

func changed(template x509.Certificate, change func(*x509.Certificate)) x509.Certificate {
	change(&template)
	return template
}

func TestVerify_Faults(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	good := server("mail.example")
	expiredRoot := issue(t, changed(authority("Old"), func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-900*day), now.Add(-10*day) }), tr.root)
	foreign := issue(t, authority("Foreign"), nil)
	impostor := issue(t, authority("Root"), nil)
	many := server("a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "g.example")
	leaf := func(change func(*x509.Certificate)) *signer { return issue(t, changed(good, change), tr.intermediate) }
	for _, test := range []struct {
		name  string
		chain []*signer
		want  []string
		text  string
	}{
		{"expired", []*signer{leaf(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }), tr.intermediate}, []string{"fail expired"}, "expired at 2026-11-24 11:00 UTC"},
		{"not yet valid", []*signer{leaf(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), tr.intermediate}, []string{"fail not_yet_valid"}, "2026-11-24 13:00 UTC"},
		{"expires in 14 days", []*signer{leaf(func(c *x509.Certificate) { c.NotAfter = now.Add(14 * day) }), tr.intermediate}, nil, ""},
		{"expires in less", []*signer{leaf(func(c *x509.Certificate) { c.NotAfter = now.Add(14*day - time.Second) }), tr.intermediate}, []string{"warn expires_soon"}, "in 13 days"},
		{"wrong name", []*signer{issue(t, many, tr.intermediate), tr.intermediate}, []string{"fail name"}, "for a.example, b.example, c.example, d.example, e.example and 2 more, not for mail.example"},
		{"common name only", []*signer{leaf(func(c *x509.Certificate) { c.DNSNames = nil }), tr.intermediate}, []string{"fail name"}, "no subject alternative name"},
		{"missing intermediate", []*signer{tr.leaf}, []string{"fail issuer_missing"}, "the issuer CN=Intermediate was not sent"},
		{"missing intermediate with its address", []*signer{leaf(func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example/i.crt"} })}, []string{"fail issuer_missing"}, "CN=Intermediate"},
		{"self-signed", []*signer{issue(t, good, nil)}, []string{"fail self_signed"}, "self-signed"},
		{"private authority", []*signer{issue(t, good, foreign), foreign}, []string{"fail authority_unknown"}, "CN=Foreign, which is not among those trusted (root.pem)"},
		{"an authority of the same name", []*signer{issue(t, good, impostor)}, []string{"fail issuer_missing"}, "one of that name is trusted, but did not sign it"},
		{"wrong order", []*signer{issue(t, good, issue(t, authority("Lower"), tr.intermediate)), tr.intermediate}, []string{"fail issuer_missing", "warn chain_extra"}, "CN=Lower"},
		{"extra certificate", []*signer{tr.leaf, tr.intermediate, foreign}, []string{"warn chain_extra"}, "certificate 3 of those sent, CN=Foreign"},
		{"twice the same", []*signer{tr.leaf, tr.intermediate, tr.intermediate}, []string{"warn chain_extra"}, "certificate 3"},
		{"root sent", []*signer{tr.leaf, tr.intermediate, tr.root}, []string{"note chain_root"}, "CN=Root"},
		{"short RSA key", []*signer{issue(t, good, tr.intermediate, rsaKey(t, 1024)), tr.intermediate}, []string{"fail key_short"}, "RSA key of only 1024 bits"},
		{"for clients only", []*signer{leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), tr.intermediate}, []string{"fail usage"}, "extended key usage"},
		{"expired intermediate", []*signer{issue(t, good, expiredRoot), expiredRoot}, []string{"fail chain_expired"}, "CN=Old"},
		{"expired, of another name, and without its intermediate", []*signer{issue(t, changed(many, func(c *x509.Certificate) { c.NotAfter = now.Add(-day) }), tr.intermediate)}, []string{"fail expired", "fail issuer_missing", "fail name"}, ""},
		{"must-staple without a staple", []*signer{leaf(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
		}), tr.intermediate}, []string{"warn staple_missing"}, "must-staple"},
		{"hostile names", []*signer{leaf(func(c *x509.Certificate) { c.Subject.CommonName = "\x1b[2J\u202e" + strings.Repeat("x", 5000) }), tr.intermediate}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, listen(t, mta{implicit: true, config: config(t, test.chain...)}.serve), probe.Options{Mode: probe.Implicit})
			requireFindings(t, r, test.want...)
			if len(r.Findings) > 0 && !strings.Contains(r.Findings[0].Text, test.text) {
				t.Errorf("no %q in %q", test.text, r.Findings[0].Text)
			}
			requireClean(t, r)
			s := r.Sessions[0]
			if refused := r.Verdict == probe.Refused; s.Verified.Verified == refused {
				t.Errorf("verified: %v, verdict %s", s.Verified.Verified, r.Verdict)
			}
			if s.EHLOSecure == nil {
				t.Error("the session did not go on")
			}
			for _, c := range s.Chain {
				if len(c.Subject) > 500 || strings.Contains(c.Subject, "\x1b") {
					t.Errorf("subject %q", c.Subject)
				}
			}
		})
	}
}

// TestVerify_Order: a chain that clients can put in order is warned of only.
func TestVerify_Order(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	lower := issue(t, authority("Lower"), tr.intermediate)
	leaf := issue(t, server("mail.example"), lower)
	r := run(t, listen(t, mta{implicit: true, config: config(t, leaf, tr.intermediate, lower)}.serve), probe.Options{Mode: probe.Implicit})
	requireFindings(t, r, "warn chain_order")
}

// TestVerify_LongChain: a server can not fill the screen with certificates.
func TestVerify_LongChain(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	chain := []*signer{tr.leaf, tr.intermediate}
	for i := range 100 {
		chain = append(chain, issue(t, authority(fmt.Sprintf("Extra %d", i)), nil))
	}
	r := run(t, listen(t, mta{implicit: true, config: config(t, chain...)}.serve), probe.Options{Mode: probe.Implicit})
	if told, found := len(r.Sessions[0].Chain), len(r.Findings); told != 20 || found != 18 {
		t.Errorf("%d certificates and %d findings are told of, want 20 and 18", told, found)
	}
}

// TestVerify_Address: a server that is named by its address has to have that in
// its certificate, and gets no SNI.
func TestVerify_Address(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	withIP := issue(t, changed(server("mail.example"), func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }), tr.intermediate)
	r := run(t, listen(t, mta{implicit: true, config: config(t, withIP, tr.intermediate)}.serve), probe.Options{Mode: probe.Implicit, ServerName: "127.0.0.1"})
	requireFindings(t, r)
	if sent := r.Sessions[0].TLS.ServerNameSent; sent != "" {
		t.Errorf("SNI %q was sent", sent)
	}
}

// TestVerify_WeakSignature: crypto/x509 signs with SHA-1 no more, so the
// certificate says SHA-1 and its signature is void. That is what is told.
func TestVerify_WeakSignature(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	leaf := issue(t, server("mail.example"), tr.intermediate)
	ecdsaWithSHA256, ecdsaWithSHA1 := "\x2a\x86\x48\xce\x3d\x04\x03\x02", "\x2a\x86\x48\xce\x3d\x04\x01"
	der := string(leaf.cert.Raw)
	if strings.Count(der, ecdsaWithSHA256) != 2 {
		t.Fatal("the certificate has not the signature algorithm twice")
	}
	var whole, body asn1.RawValue
	mustUnmarshal(t, []byte(der), &whole)
	rest := mustUnmarshal(t, whole.Bytes, &body)
	swap := func(text string) []byte {
		return []byte(strings.Replace(text, "\x30\x0a\x06\x08"+ecdsaWithSHA256, "\x30\x09\x06\x07"+ecdsaWithSHA1, 1))
	}
	body = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: swap(string(body.Bytes))}
	inner, err := asn1.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	old, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(inner, swap(string(rest))...)})
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{old, tr.intermediate.cert.Raw}, PrivateKey: leaf.key}}}
	r := run(t, listen(t, mta{implicit: true, config: c}.serve), probe.Options{Mode: probe.Implicit})
	requireFindings(t, r, "fail signature_weak")
}

func mustUnmarshal(t testing.TB, der []byte, to *asn1.RawValue) (rest []byte) {
	t.Helper()
	rest, err := asn1.Unmarshal(der, to)
	if err != nil {
		t.Fatal(err)
	}
	return rest
}

func TestStaple(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	for _, test := range []struct {
		name   string
		status int
		until  time.Time
		signer *signer
		want   []string
	}{
		{"good", ocsp.Good, now.Add(day), tr.intermediate, nil},
		{"revoked", ocsp.Revoked, now.Add(day), tr.intermediate, []string{"fail staple_bad"}},
		{"too old", ocsp.Good, now.Add(-time.Hour), tr.intermediate, []string{"fail staple_bad"}},
		{"signed by another", ocsp.Good, now.Add(day), tr.root, []string{"fail staple_bad"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			response := ocsp.Response{
				Status: test.status, SerialNumber: tr.leaf.cert.SerialNumber, ThisUpdate: now.Add(-day), NextUpdate: test.until,
				RevokedAt: now.Add(-day), IssuerHash: crypto.SHA256,
			}
			staple, err := ocsp.CreateResponse(tr.intermediate.cert, test.signer.cert, response, test.signer.key)
			if err != nil {
				t.Fatal(err)
			}
			c := config(t)
			c.Certificates[0].OCSPStaple = staple
			r := run(t, listen(t, mta{implicit: true, config: c}.serve), probe.Options{Mode: probe.Implicit})
			requireFindings(t, r, test.want...)
			if got := r.Sessions[0].TLS.OCSP; !got.Stapled || got.Good != (test.want == nil) || got.Good && !got.Until.Equal(test.until) {
				t.Errorf("OCSP facts %+v", got)
			}
		})
	}
}
