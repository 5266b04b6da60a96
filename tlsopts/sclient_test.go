package tlsopts_test

import (
	"context"
	"crypto/tls"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// sClient connects with openssl s_client and gives what it prints.
func sClient(t *testing.T, address string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, need.Program(t, "openssl"), append([]string{"s_client", "-connect", address, "-brief"}, args...)...)
	cmd.Env = append(os.Environ(), "OPENSSL_CONF=/dev/null")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("s_client %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestOrderWithOpenSSL proves that the order is ours, or the client's, with a
// client that sends its suites in the order it is told.
func TestOrderWithOpenSSL(t *testing.T) {
	const (
		ours    = "ECDHE+AES256+AESGCM:ECDHE+CHACHA20:ECDHE+AES128+AESGCM:ECDHE+AES128:RSA+AES256:RSA+AES128"
		theirs  = "AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384"
		chaCha  = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-CHACHA20-POLY1305"
		foreign = "DHE-RSA-AES128-GCM-SHA256"
	)
	rsaOnly, ecdsaOnly := []*tls.Certificate{rsaCert()}, []*tls.Certificate{p256Cert()}
	both := []*tls.Certificate{rsaCert(), p256Cert()}
	tls12, tls10 := []string{"-tls1_2"}, []string{"-tls1"}
	for _, test := range []struct {
		name         string
		order        tlsopts.CipherOrder
		certificates []*tls.Certificate
		version      []string
		offer        string
		want         string
	}{
		{"server, RSA", tlsopts.ServerOrder, rsaOnly, tls12, theirs, "ECDHE-RSA-AES256-GCM-SHA384"},
		{"server, ECDSA", tlsopts.ServerOrder, ecdsaOnly, tls12, theirs, "ECDHE-ECDSA-AES256-GCM-SHA384"},
		{"server, both", tlsopts.ServerOrder, both, tls12, theirs, "ECDHE-ECDSA-AES256-GCM-SHA384"},
		{"server, ChaCha20 before AES128, RSA", tlsopts.ServerOrder, rsaOnly, tls12, chaCha, "ECDHE-RSA-CHACHA20-POLY1305"},
		{"server, ChaCha20 before AES128, ECDSA", tlsopts.ServerOrder, ecdsaOnly, tls12, chaCha, "ECDHE-ECDSA-CHACHA20-POLY1305"},
		{"server, TLS 1.0, RSA", tlsopts.ServerOrder, rsaOnly, tls10, theirs, "ECDHE-RSA-AES128-SHA"},
		{"server, TLS 1.0, ECDSA", tlsopts.ServerOrder, ecdsaOnly, tls10, theirs, "ECDHE-ECDSA-AES128-SHA"},
		{"server, TLS 1.0, RSA key exchange", tlsopts.ServerOrder, both, tls10, "AES128-SHA:AES256-SHA", "AES256-SHA"},
		{"client, RSA", tlsopts.ClientOrder, rsaOnly, tls12, theirs, "AES128-SHA"},
		{"client, ECDSA", tlsopts.ClientOrder, ecdsaOnly, tls12, theirs, "ECDHE-ECDSA-AES128-SHA"},
		{"client, both", tlsopts.ClientOrder, both, tls12, chaCha, "ECDHE-RSA-AES128-GCM-SHA256"},
		{"client, TLS 1.0", tlsopts.ClientOrder, both, tls10, "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA"},
		{"nothing shared", tlsopts.ServerOrder, both, tls12, foreign, "handshake failure"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			options := tlsopts.Options{Profile: tlsopts.Legacy, Ciphers: ours, HonorCipherOrder: test.order}
			address, _ := listen(t, serve(t, options, test.certificates...).Config())
			out := sClient(t, address, append(test.version, "-cipher", test.offer+":@SECLEVEL=0")...)
			if !strings.Contains(out, test.want+"\n") && !strings.Contains(out, test.want+":") {
				t.Errorf("want %s in:\n%s", test.want, out)
			}
		})
	}
}

func TestCurvesWithOpenSSL(t *testing.T) {
	for _, test := range []struct {
		name   string
		curves tlsopts.Curves
		args   []string
		want   string // "Server Temp Key: X25519, 253 bits", "…: ECDH, prime256v1, 256 bits"
	}{
		{"TLS 1.2, ours first", "P-384:X25519", []string{"-tls1_2", "-groups", "X25519:P-256:P-384"}, "secp384r1"},
		{"TLS 1.3, ours first, asked for", "P-384:X25519", []string{"-tls1_3", "-groups", "X25519:P-384:P-256"}, "secp384r1"},
		{"TLS 1.3, ours first, at once", "X25519:P-384", []string{"-tls1_3", "-groups", "X25519:P-384:P-256"}, "X25519"},
		{"TLS 1.2, second", "P-521:P-256", []string{"-tls1_2", "-groups", "X25519:P-256"}, "prime256v1"},
		{"TLS 1.2, none", "P-521", []string{"-tls1_2", "-groups", "X25519:P-256"}, "handshake failure"},
		{"TLS 1.3, none", "P-521", []string{"-tls1_3", "-groups", "X25519:P-256"}, "handshake failure"},
		{"TLS 1.2, auto", "auto", []string{"-tls1_2", "-groups", "P-256:X25519"}, "prime256v1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address, _ := listen(t, serve(t, tlsopts.Options{Curves: test.curves}, p256Cert()).Config())
			if out := sClient(t, address, test.args...); !strings.Contains(out, test.want) {
				t.Errorf("want %s in:\n%s", test.want, out)
			}
		})
	}
}

func TestCertificateChoiceWithOpenSSL(t *testing.T) {
	address, _ := listen(t, serve(t, tlsopts.Options{}, p256Cert(), rsaCert()).Config())
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-tls1_2"}, "Signature type: ECDSA"},
		{[]string{"-tls1_3"}, "Signature type: ECDSA"},
		{[]string{"-tls1_2", "-sigalgs", "RSA+SHA256"}, "Signature type: RSA"},
		{[]string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"}, "Signature type: RSA-PSS"},
		{[]string{"-tls1_3", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"}, "Signature type: RSA-PSS"},
	} {
		if out := sClient(t, address, test.args...); !strings.Contains(out, test.want+"\n") {
			t.Errorf("%q: want %s in:\n%s", test.args, test.want, out)
		}
	}
}

func TestALPNWithOpenSSL(t *testing.T) {
	address, _ := listen(t, serve(t, tlsopts.Options{}, p256Cert()).Config())
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		if out := sClient(t, address, version, "-alpn", "h2,http/1.1"); !strings.Contains(out, "SSL alert number 120") {
			t.Errorf("foreign names in %s: want alert 120 in:\n%s", version, out)
		}
		if out := sClient(t, address, version, "-alpn", "h2,smtp"); !strings.Contains(out, "CONNECTION ESTABLISHED") {
			t.Errorf("smtp in %s:\n%s", version, out)
		}
	}
}
