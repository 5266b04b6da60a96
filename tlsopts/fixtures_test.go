package tlsopts_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// signed is a certificate with its key.
type signed struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (s signed) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw})
}

// keyPEM is the key in PKCS #8.
func (s signed) keyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	noErr(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

var serialNumber atomic.Int64

// sign makes a certificate. Without a parent it is signed with its own key.
func sign(t testing.TB, parent *signed, key crypto.Signer, change func(*x509.Certificate)) signed {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serialNumber.Add(1)),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(7 * 24 * time.Hour), // beyond the tickets whose clock the tests move
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	change(template)
	if parent == nil {
		parent = &signed{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	noErr(t, err)
	cert, err := x509.ParseCertificate(der)
	noErr(t, err)
	return signed{cert, key}
}

func signCA(t testing.TB, name string, parent *signed) signed {
	t.Helper()
	return sign(t, parent, newKey(t, "P-256"), func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: name}
		c.IsCA, c.BasicConstraintsValid = true, true
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageCertSign, nil
	})
}

func signLeaf(t testing.TB, parent *signed, kind string, names ...string) signed {
	t.Helper()
	return sign(t, parent, newKey(t, kind), func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: names[0]}
		c.DNSNames = names
	})
}

// newKey makes a key of a kind, but RSA keys only once for each.
func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "RSA 1024":
		key = rsa1024()
	case "RSA 2048":
		key = rsa2048()
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "P-224":
		key, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		t.Fatalf("no such kind of key: %s", kind)
	}
	noErr(t, err)
	return key
}

var rsa1024, rsa2048 = sync.OnceValue(func() *rsa.PrivateKey { return mustRSA(1024) }), sync.OnceValue(func() *rsa.PrivateKey { return mustRSA(2048) })

func mustRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

// servedKinds are the kinds of key that are served.
var servedKinds = []string{"RSA 2048", "P-256", "P-384", "P-521", "Ed25519"}

func noErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func pemFile(data ...[]byte) tlsopts.File {
	return tlsopts.File{Name: "bundle.pem", Data: joined(data...)}
}

// openssl runs the real tool in a folder of its own, into which files are
// written first, and returns that folder.
func openssl(t *testing.T, files map[string][]byte, commands ...[]string) (dir string) {
	t.Helper()
	tool := need.Program(t, "openssl")
	dir = t.TempDir()
	for name, data := range files {
		noErr(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	for _, args := range commands {
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %q: %v\n%s", args, err, out)
		}
	}
	return dir
}

func readFile(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	noErr(t, err)
	return data
}

// converse makes a TLS connection between the two configurations and has the
// server say a byte, so that a ticket of TLS 1.3 arrives before it. It returns
// the server's and the client's state, or their errors. A pipe will not do: in
// TLS 1.3 both sides may write at once.
func converse(t testing.TB, server, client *tls.Config) (served, got tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	noErr(t, err)
	defer listener.Close()
	near, err := net.Dial("tcp", listener.Addr().String())
	noErr(t, err)
	defer near.Close()
	far, err := listener.Accept()
	noErr(t, err)
	deadline := time.Now().Add(20 * time.Second)
	noErr(t, near.SetDeadline(deadline))
	noErr(t, far.SetDeadline(deadline))
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		conn := tls.Server(far, server)
		if serverErr = conn.Handshake(); serverErr != nil {
			return
		}
		served = conn.ConnectionState()
		_, serverErr = conn.Write([]byte{1})
	}()
	conn := tls.Client(near, client)
	if clientErr = conn.Handshake(); clientErr == nil {
		got = conn.ConnectionState()
		_, clientErr = conn.Read(make([]byte, 1))
	}
	_ = near.Close()
	<-done
	return served, got, serverErr, clientErr
}
