package tlsopts_test

import (
	"context"
	"crypto/fips140"
	"crypto/tls"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// again runs one test in a process of its own whose environment has godebug,
// which crypto/tls reads early.
func again(t *testing.T, test, godebug string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG="+godebug)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+test) {
		t.Errorf("%s with GODEBUG=%s: %v\n%s", test, godebug, err, out)
	}
}

// TestEnvironment holds that GODEBUG neither allows what the options refuse nor
// is needed for what they allow.
func TestEnvironment(t *testing.T) {
	for _, godebug := range []string{
		"tls10server=1,tlsrsakex=1,tls3des=1,tlsunsafeekm=1",
		"tls10server=0,tlsrsakex=0,tls3des=0,tlssha1=0",
		"tlssecpmlkem=1,tlsmlkem=1",
	} {
		t.Run(godebug, func(t *testing.T) {
			t.Parallel()
			again(t, "TestHandshakes", godebug)
		})
	}
	t.Run("fips140=on", func(t *testing.T) {
		t.Parallel()
		again(t, "TestApprovedOnly", "fips140=on")
	})
}

// TestApprovedOnly is run by TestEnvironment. What crypto/tls has switched off
// must not be chosen.
func TestApprovedOnly(t *testing.T) {
	if !fips140.Enabled() {
		return // TestEnvironment runs this in FIPS 140-3 mode
	}
	server := serve(t, tlsopts.Options{Profile: tlsopts.Legacy, Ciphers: "ECDHE+CHACHA20:ECDHE+AES:RSA+AES", Curves: "X25519:P-256"}, p256Cert())
	state, err := handshake(t, server.Config(), &tls.Config{MaxVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	if got := tlsopts.CipherSuiteName(state.CipherSuite); got != "ECDHE-ECDSA-AES256-GCM-SHA384" || state.CurveID != tls.CurveP256 {
		t.Errorf("got %s with %v", got, state.CurveID)
	}
	for _, o := range []tlsopts.Options{{Curves: "X25519"}, {Profile: tlsopts.Legacy, MaxVersion: tlsopts.TLS11}} {
		if _, err := o.Config(); err == nil {
			t.Errorf("%+v, of which nothing is approved, was accepted", o)
		}
	}
}

func TestRefusedEnvironment(t *testing.T) {
	for _, test := range []struct {
		godebug string
		options tlsopts.Options
		want    string
	}{
		{"tlsmlkem=0", tlsopts.Options{}, "GODEBUG=tlsmlkem=0 switches off X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024: " +
			"remove it, or set curves to a list without"},
		{"x=y,tlssecpmlkem=0", tlsopts.Options{}, "GODEBUG=tlssecpmlkem=0 switches off SecP256r1MLKEM768, SecP384r1MLKEM1024: " +
			"remove it, or set curves to a list without"},
		{"tlsmlkem=0", tlsopts.Options{Curves: "P-256:X25519"}, ""},
		{"tlssecpmlkem=0", tlsopts.Options{Curves: "X25519MLKEM768:X25519"}, ""},
		{"tlsmlkem=0,tlsmlkem=1", tlsopts.Options{}, ""},
		{"tlssha1=1", tlsopts.Options{}, "GODEBUG=tlssha1=1 allows signatures with SHA-1 in TLS 1.2 (RFC 9155): remove it"},
		{"tlssha1=1", tlsopts.Options{Profile: tlsopts.Modern}, ""},
		{"tlsrsakex=1,tls3des=1,tls10server=1", tlsopts.Options{}, ""},
	} {
		t.Setenv("GODEBUG", test.godebug)
		_, err := test.options.Config()
		if got := errorText(err); got != test.want {
			t.Errorf("%s with %+v\n got %s\nwant %s", test.godebug, test.options, got, test.want)
		}
	}
}
