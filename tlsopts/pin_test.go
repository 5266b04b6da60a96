package tlsopts_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func TestPin(t *testing.T) {
	leaf := signLeaf(t, nil, "P-256", "a.example")
	pin := tlsopts.PinOf(leaf.cert)
	var read tlsopts.Pin
	noErr(t, read.UnmarshalText([]byte(pin.String())))
	text, err := read.MarshalText()
	noErr(t, err)
	if read != pin || !strings.HasPrefix(string(text), "sha256/") || len(text) != 51 {
		t.Errorf("%s read as %s", pin, text)
	}

	slash := "sha256//+tFYT1dQdD3c4MX851qCJGdTgqbkYeU4q2s2QimJto="
	if err := read.UnmarshalText([]byte(slash)); err != nil || read.String() != slash {
		t.Errorf("base64 that begins with a slash: %s, %v", read, err)
	}

	digest := sha256.Sum256(nil)
	right := base64.StdEncoding.EncodeToString(digest[:])
	for name, tt := range map[string]struct{ text, want string }{
		"empty":           {"", "does not begin with \"sha256/\""},
		"bare":            {right, "does not begin with \"sha256/\""},
		"curl":            {"sha256//" + right, "two slashes"},
		"HTTP":            {"pin-sha256=\"" + right + "\"", "HTTP header"},
		"SHA-1":           {"sha1/2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "SHA-1 is not safe"},
		"hexadecimal":     {hex.EncodeToString(digest[:]), "hexadecimal"},
		"with colons":     {strings.TrimSuffix(strings.Repeat("AB:", 32), ":"), "hexadecimal"},
		"no padding":      {"sha256/" + strings.TrimSuffix(right, "="), "not base64"},
		"trailing bits":   {"sha256/" + strings.Repeat("A", 42) + "B=", "not base64"},
		"for URLs":        {"sha256/" + strings.Repeat("-", 43) + "=", "not base64"},
		"space":           {"sha256/" + right + " ", "not base64"},
		"newline":         {"sha256/" + right + "\n", "not base64"},
		"newline between": {"sha256/" + right[:20] + "\n" + right[20:], "not base64"},
		"short":           {"sha256/AAAA", "has 3 bytes in place of 32"},
		"upper case":      {"SHA256/" + right, "does not begin with"},
		"long":            {strings.Repeat("x", 1000), "does not begin with"},
	} {
		var p tlsopts.Pin
		err := p.UnmarshalText([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "openssl dgst -sha256 -binary") {
			t.Errorf("%s: error %v does not say %q", name, err, tt.want)
		} else if len(err.Error()) > 500 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
		if p != (tlsopts.Pin{}) {
			t.Errorf("%s: changed by a failure", name)
		}
	}
}

// TestPinOfOpenSSL follows the command that the errors name.
func TestPinOfOpenSSL(t *testing.T) {
	for _, kind := range servedKinds {
		leaf := signLeaf(t, nil, kind, "a.example")
		dir := openssl(t, map[string][]byte{"cert.pem": leaf.pem()},
			[]string{"x509", "-in", "cert.pem", "-noout", "-pubkey", "-out", "pub.pem"},
			[]string{"pkey", "-pubin", "-in", "pub.pem", "-outform", "DER", "-out", "pub.der"},
			[]string{"dgst", "-sha256", "-binary", "-out", "sum", "pub.der"},
			[]string{"base64", "-in", "sum", "-out", "sum.txt"})
		var pin tlsopts.Pin
		noErr(t, pin.UnmarshalText([]byte("sha256/"+strings.TrimSpace(string(readFile(t, dir, "sum.txt"))))))
		if pin != tlsopts.PinOf(leaf.cert) {
			t.Errorf("%s: openssl says %s, we say %s", kind, pin, tlsopts.PinOf(leaf.cert))
		}
	}
}

func TestParseAuthorities(t *testing.T) {
	one, two := signCA(t, "one", nil), signCA(t, "two", nil)
	a, err := tlsopts.ParseAuthorities(joined([]byte("\xef\xbb\xbf# ours\n"), one.pem(), []byte("and\n"), two.pem(), one.pem()))
	noErr(t, err)
	if a.Len() != 2 || a.Pool() == nil {
		t.Errorf("%d authorities", a.Len())
	}
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"empty":     {nil, "empty"},
		"DER":       {one.cert.Raw, "openssl x509 -inform DER"},
		"large":     {make([]byte, 1<<20+1), "larger than 1048576 bytes"},
		"key":       {joined(one.pem(), one.keyPEM(t)), "private key among the authorities"},
		"cut":       {joined(one.pem(), two.pem()[:100]), "of 2 PEM blocks only 1 are whole"},
		"no block":  {[]byte("-----BEGIN X-----\n-----END X-----\n"), "no certificate"},
		"damaged":   {joined(one.pem(), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")), "certificate 2 of the file"},
		"text only": {[]byte("hello"), "no PEM block"},
	} {
		if _, err := tlsopts.ParseAuthorities(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v does not say %q", name, err, tt.want)
		}
	}
}
