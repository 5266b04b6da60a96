package tlsopts_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

const testTimeout = 20 * time.Second

// Certificates of each key type, made once.
var (
	rsaCert     = sync.OnceValue(func() *tls.Certificate { return newCertificate(must(rsa.GenerateKey(rand.Reader, 2048))) })
	p256Cert    = sync.OnceValue(func() *tls.Certificate { return newCertificate(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))) })
	p384Cert    = sync.OnceValue(func() *tls.Certificate { return newCertificate(must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))) })
	ed25519Cert = sync.OnceValue(func() *tls.Certificate {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return newCertificate(must(key, err))
	})
)

func newCertificate(key crypto.Signer) *tls.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"mail.example.com"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: must(x509.ParseCertificate(der))}
}

// serve makes a Server with the certificates.
func serve(t testing.TB, o tlsopts.Options, certificates ...*tls.Certificate) *tlsopts.Server {
	t.Helper()
	server, err := o.Server(tlsopts.ServerConfig{Certificates: func(*tls.ClientHelloInfo) ([]*tls.Certificate, error) { return certificates, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// handshake lets a client of crypto/tls connect and gives what it sees. The
// connection is TCP, for a pipe blocks when both sides send an alert.
func handshake(t testing.TB, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	address, _ := listen(t, server)
	client = client.Clone()
	client.InsecureSkipVerify = true
	dialer := &tls.Dialer{Config: client}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	_, err = conn.Read(make([]byte, 1)) // what TLS 1.3 refuses comes after the client's part
	if err != nil && err.Error() != "EOF" {
		return tls.ConnectionState{}, err
	}
	return conn.(*tls.Conn).ConnectionState(), nil
}

// listen accepts clients until the test ends, and gives what it sees of each.
func listen(t testing.TB, config *tls.Config) (address string, seen <-chan tls.ConnectionState) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	states := make(chan tls.ConnectionState, 1)
	var done sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		done.Wait()
	})
	done.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			raw.SetDeadline(time.Now().Add(testTimeout))
			conn := tls.Server(raw, config)
			if conn.Handshake() == nil {
				select {
				case states <- conn.ConnectionState():
				default:
				}
			}
			conn.Close()
		}
	})
	return listener.Addr().String(), states
}

// TestHandshakes says who may connect and with what. TestEnvironment runs it
// once more under each GODEBUG.
func TestHandshakes(t *testing.T) {
	old := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}
	oldRSA := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_256_CBC_SHA}}
	old3DES := &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}}
	rsaKey := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}
	rc4 := &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, tls.TLS_RSA_WITH_RC4_128_SHA}}
	only := func(id tls.CurveID) *tls.Config { return &tls.Config{CurvePreferences: []tls.CurveID{id}} }
	const refused = "refused"
	for _, test := range []struct {
		name    string
		options tlsopts.Options
		client  *tls.Config
		want    string // version, suite below TLS 1.3, and curve; or refused
	}{
		{"default", tlsopts.Options{}, &tls.Config{}, "TLSv1.3 X25519MLKEM768"},
		{"default, TLS 1.2", tlsopts.Options{}, &tls.Config{MaxVersion: tls.VersionTLS12}, "TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256 X25519"},
		{"default, TLS 1.0", tlsopts.Options{}, old, refused},
		{"default, RSA key exchange", tlsopts.Options{}, rsaKey, refused},
		{"default, 3DES", tlsopts.Options{}, old3DES, refused},
		{"default, RC4", tlsopts.Options{}, rc4, refused},
		{"default, hybrid P-256", tlsopts.Options{}, only(tls.SecP256r1MLKEM768), "TLSv1.3 SecP256r1MLKEM768"},
		{"modern", tlsopts.Options{Profile: tlsopts.Modern}, &tls.Config{}, "TLSv1.3 X25519MLKEM768"},
		{"modern, TLS 1.2", tlsopts.Options{Profile: tlsopts.Modern}, &tls.Config{MaxVersion: tls.VersionTLS12}, refused},
		{"legacy", tlsopts.Options{Profile: tlsopts.Legacy}, &tls.Config{}, "TLSv1.3 X25519MLKEM768"},
		{"legacy, TLS 1.0", tlsopts.Options{Profile: tlsopts.Legacy}, old, "TLSv1 ECDHE-RSA-AES128-SHA X25519"},
		{"legacy, TLS 1.1, RSA key exchange", tlsopts.Options{Profile: tlsopts.Legacy}, oldRSA, "TLSv1.1 AES256-SHA "},
		{"legacy, RSA key exchange", tlsopts.Options{Profile: tlsopts.Legacy}, rsaKey, "TLSv1.2 AES128-GCM-SHA256 "},
		{"legacy, 3DES", tlsopts.Options{Profile: tlsopts.Legacy}, old3DES, refused},
		{"legacy, RC4", tlsopts.Options{Profile: tlsopts.Legacy}, rc4, refused},
		{"3DES named", tlsopts.Options{Profile: tlsopts.Legacy, Ciphers: "ECDHE+AES:DES-CBC3-SHA"}, old3DES, "TLSv1.2 DES-CBC3-SHA "},
		{"all named", tlsopts.Options{Profile: tlsopts.Legacy, Ciphers: "ALL:RC4"}, rc4, refused},
		{"legacy, min_version", tlsopts.Options{Profile: tlsopts.Legacy, MinVersion: tlsopts.TLS12}, old, refused},
		{"min_version", tlsopts.Options{MinVersion: tlsopts.TLS10}, old, "TLSv1 ECDHE-RSA-AES128-SHA X25519"},
		{"min_version, RSA key exchange", tlsopts.Options{MinVersion: tlsopts.TLS10}, oldRSA, refused},
		{"max_version", tlsopts.Options{MaxVersion: tlsopts.TLS12}, &tls.Config{}, "TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256 X25519"},
		{"curves", tlsopts.Options{Curves: "P-384:X25519"}, &tls.Config{}, "TLSv1.3 P-384"},
		{"curves, other", tlsopts.Options{Curves: "P-384:P-521"}, only(tls.X25519), refused},
		{"curves, classical alone", tlsopts.Options{Curves: "X25519"}, only(tls.X25519MLKEM768), refused},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := refused
			if state, err := handshake(t, serve(t, test.options, rsaCert()).Config(), test.client); err == nil {
				got = tlsopts.Version(state.Version).String()
				if state.Version < tls.VersionTLS13 { // in which the suite depends on the hardware
					got += " " + tlsopts.CipherSuiteName(state.CipherSuite)
				}
				got += " " + curveName(state.CurveID)
			} else {
				t.Log(err)
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func curveName(id tls.CurveID) string {
	return map[tls.CurveID]string{
		tls.X25519MLKEM768: "X25519MLKEM768", tls.SecP256r1MLKEM768: "SecP256r1MLKEM768", tls.SecP384r1MLKEM1024: "SecP384r1MLKEM1024",
		tls.X25519: "X25519", tls.CurveP256: "P-256", tls.CurveP384: "P-384", tls.CurveP521: "P-521",
	}[id]
}

func TestALPN(t *testing.T) {
	for _, test := range []struct {
		policy tlsopts.ALPN
		offer  []string
		want   string
	}{
		{"", nil, ""},
		{"", []string{"h2", "smtp"}, "smtp"},
		{"", []string{"submission", "esmtp"}, "esmtp"},
		{"", []string{"http/1.1"}, "refused"},
		{tlsopts.ALPNStrict, []string{"h2"}, "refused"},
		{tlsopts.ALPNOff, []string{"h2"}, ""},
		{must(tlsopts.ALPNOf("lmtp", "smtp")), []string{"smtp", "lmtp"}, "lmtp"},
		{must(tlsopts.ALPNOf("lmtp")), []string{"smtp"}, "refused"},
		{must(tlsopts.ALPNOf("lmtp")), nil, ""},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			server := serve(t, tlsopts.Options{ALPN: test.policy}, p256Cert())
			state, err := handshake(t, server.Config(), &tls.Config{NextProtos: test.offer, MaxVersion: version})
			got := state.NegotiatedProtocol
			if err != nil {
				got = "refused"
			}
			if got != test.want {
				t.Errorf("%q with %q offered in 0x%04x: got %q (%v), want %q", test.policy, test.offer, version, got, err, test.want)
			}
		}
	}
}
