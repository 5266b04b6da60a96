package devcert_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

func newCA(t *testing.T) *devcert.CA {
	t.Helper()
	ca, err := devcert.NewCA("devcert test")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// pair issues a leaf and reads it back as a server would.
func pair(t *testing.T, ca *devcert.CA, leaf devcert.Leaf) tls.Certificate {
	t.Helper()
	certPEM, keyPEM, err := ca.Issue(leaf)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestIssue_ChainVerifies(t *testing.T) {
	ca, stranger := newCA(t), newCA(t)
	leaf := pair(t, ca, devcert.Leaf{Names: []string{"mail.example", "*.mail.example", "127.0.0.1", "::1"}}).Leaf
	for name, usage := range map[string]x509.ExtKeyUsage{
		"mail.example":   x509.ExtKeyUsageServerAuth,
		"a.mail.example": x509.ExtKeyUsageServerAuth,
		"127.0.0.1":      x509.ExtKeyUsageServerAuth,
		"::1":            x509.ExtKeyUsageClientAuth,
	} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("%s does not verify: %v", name, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "other.example", Roots: ca.Pool()}); err == nil {
		t.Error("a name that the leaf does not have verifies")
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "mail.example", Roots: stranger.Pool()}); err == nil {
		t.Error("the leaf verifies under another authority")
	}
}

func TestIssue_Lifetime(t *testing.T) {
	ca := newCA(t)
	begin := time.Now().Add(-48 * time.Hour).Truncate(time.Second).UTC()
	leaf := pair(t, ca, devcert.Leaf{Names: []string{"a.example"}, NotBefore: begin, Lifetime: time.Hour}).Leaf
	if !leaf.NotBefore.Equal(begin) || !leaf.NotAfter.Equal(begin.Add(time.Hour)) {
		t.Errorf("valid from %v to %v, want an hour from %v", leaf.NotBefore, leaf.NotAfter, begin)
	}
	leaf = pair(t, ca, devcert.Leaf{Names: []string{"a.example"}}).Leaf
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		t.Errorf("by default valid from %v to %v, which is not now", leaf.NotBefore, leaf.NotAfter)
	}
}

func TestIssue_KeyTypes(t *testing.T) {
	ca := newCA(t)
	for name, c := range map[string]struct {
		key devcert.KeyType
		is  func(any) bool
	}{
		"ecdsa":    {devcert.ECDSA, func(k any) bool { key, ok := k.(*ecdsa.PublicKey); return ok && key.Curve.Params().BitSize == 256 }},
		"rsa 2048": {devcert.RSA2048, func(k any) bool { key, ok := k.(*rsa.PublicKey); return ok && key.N.BitLen() == 2048 }},
		"rsa 1024": {devcert.RSA1024, func(k any) bool { key, ok := k.(*rsa.PublicKey); return ok && key.N.BitLen() == 1024 }},
		"ed25519":  {devcert.Ed25519, func(k any) bool { _, ok := k.(ed25519.PublicKey); return ok }},
	} {
		t.Run(name, func(t *testing.T) {
			if got := pair(t, ca, devcert.Leaf{Names: []string{"a.example"}, Key: c.key}).Leaf.PublicKey; !c.is(got) {
				t.Errorf("the key is a %T of another kind", got)
			}
		})
	}
}

func TestPEM_IsTheAuthority(t *testing.T) {
	ca := newCA(t)
	block, rest := pem.Decode(ca.PEM())
	if block == nil || len(rest) != 0 {
		t.Fatalf("not one PEM block: %s", ca.PEM())
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !cert.IsCA || cert.Subject.CommonName != "devcert test" {
		t.Errorf("authority %v, subject %v", cert.IsCA, cert.Subject)
	}
}

func TestWriteFolder(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022)) // modes are told apart below
	ca, dir := newCA(t), t.TempDir()
	var serials []string
	for range 2 { // the second time it replaces what is there
		if err := ca.WriteFolder(dir, "mail.example", devcert.Leaf{Names: []string{"mail.example"}}); err != nil {
			t.Fatal(err)
		}
		got, err := tls.LoadX509KeyPair(filepath.Join(dir, "mail.example", "cert.pem"), filepath.Join(dir, "mail.example", "key.pem"))
		if err != nil {
			t.Fatal(err)
		}
		serials = append(serials, got.Leaf.SerialNumber.String())
	}
	if serials[0] == serials[1] {
		t.Error("the second call did not replace the first leaf")
	}
	entries, err := os.ReadDir(filepath.Join(dir, "mail.example"))
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]os.FileMode{"cert.pem": 0o644, "key.pem": 0o600}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		want, known := modes[entry.Name()]
		if !known || info.Mode() != want {
			t.Errorf("%s has mode %v, want %v of cert.pem and key.pem alone", entry.Name(), info.Mode(), want)
		}
		delete(modes, entry.Name())
	}
	if len(modes) != 0 {
		t.Errorf("not written: %v", modes)
	}
}
