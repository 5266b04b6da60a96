package tlsopts_test

import (
	"crypto/tls"
	"encoding"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func TestConfigDefaults(t *testing.T) {
	config, err := tlsopts.Options{}.Config()
	if err != nil {
		t.Fatal(err)
	}
	if config.MinVersion != tls.VersionTLS12 || config.MaxVersion != tls.VersionTLS13 || !config.SessionTicketsDisabled {
		t.Errorf("got %+v", config)
	}
	for _, id := range config.CipherSuites {
		if name := tlsopts.CipherSuiteName(id); !strings.HasPrefix(name, "ECDHE-") || strings.HasSuffix(name, "-SHA") {
			t.Errorf("%s is on by default", name)
		}
	}
	if config.CurvePreferences[0] != tls.X25519MLKEM768 || !slices.Equal(config.NextProtos, []string{"smtp", "esmtp", "submission"}) {
		t.Errorf("got %v, %v", config.CurvePreferences, config.NextProtos)
	}
}

// Two configurations share nothing that a caller might change.
func TestConfigsAreApart(t *testing.T) {
	for _, o := range []tlsopts.Options{{}, {Profile: tlsopts.Legacy, Curves: "X25519"}} {
		a, b := must(o.Config()), must(o.Config())
		a.CipherSuites[0], a.CurvePreferences[0], a.NextProtos[0] = 0, 0, ""
		if b.CipherSuites[0] == 0 || b.CurvePreferences[0] == 0 || b.NextProtos[0] == "" {
			t.Errorf("%+v: a change of one configuration shows in another", o)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, test := range []struct {
		options tlsopts.Options
		want    string
	}{
		{tlsopts.Options{MinVersion: tlsopts.TLS13, MaxVersion: tlsopts.TLS12}, "min_version TLSv1.3 is above max_version TLSv1.2"},
		{tlsopts.Options{MaxVersion: tlsopts.TLS11},
			"max_version TLSv1.1 is below TLSv1.2, the lowest of profile intermediate: set min_version as well, or another profile"},
		{tlsopts.Options{Profile: tlsopts.Modern, MaxVersion: tlsopts.TLS12},
			"max_version TLSv1.2 is below TLSv1.3, the lowest of profile modern: set min_version as well, or another profile"},
		{tlsopts.Options{Profile: "old", ALPN: "h2", Curves: "x", Ciphers: "X", HonorCipherOrder: "yes"}, strings.Join([]string{
			`profile: "old" is not a profile: did you mean "legacy"?`,
			`honor_cipher_order: "yes" is neither true (our order of cipher suites decides) nor false (the client's)`,
			`alpn: the ALPN name "h2" would let a browser in (RFC 9325 section 3.8): want names of mail protocols, such as smtp`,
			`curves: "x" is not the name of a curve: want auto, or a list of X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024, X25519, P-256, P-384, P-521`,
			`ciphers: "X" is not the name of a cipher suite or keyword: see "openssl ciphers -stdname ALL" for names, and openssl-ciphers(1) for keywords`,
		}, "\n")},
		{tlsopts.Options{MinVersion: 0x0300}, "min_version: 0x0300 is not a TLS version: want TLS10, TLS11, TLS12 or TLS13"},
		{tlsopts.Options{Profile: tlsopts.Legacy, MaxVersion: tlsopts.TLS11, Ciphers: "ECDHE+AESGCM"},
			"TLSv1, TLSv1.1: cannot be used, because none of the cipher suites and curves fits; add some, such as ECDHE+AES to ciphers and P-256 to curves"},
		{tlsopts.Options{MaxVersion: tlsopts.TLS12, Curves: "X25519MLKEM768"},
			"TLSv1.2: cannot be used, because none of the cipher suites and curves fits; add some, such as ECDHE+AES to ciphers and P-256 to curves"},
	} {
		if _, err := test.options.Config(); errorText(err) != test.want {
			t.Errorf("%+v\n got %v\nwant %s", test.options, err, test.want)
		}
		if _, err := test.options.Describe(); errorText(err) != test.want {
			t.Errorf("Describe of %+v gives %v", test.options, err)
		}
		if _, err := test.options.Notes(); errorText(err) != test.want {
			t.Errorf("Notes of %+v gives %v", test.options, err)
		}
	}
}

func TestUnmarshalText(t *testing.T) {
	const curves = `want auto, or a list of X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024, X25519, P-256, P-384, P-521`
	for _, test := range []struct {
		into        func() (encoding.TextUnmarshaler, func() string)
		text, value string
		err         string
	}{
		{field[tlsopts.Profile], "modern", "modern", ""},
		{field[tlsopts.Profile], "legacy", "legacy", ""},
		{field[tlsopts.Profile], "Modern", "", `"Modern" is not a profile: did you mean "modern"?`},
		{field[tlsopts.Profile], "secure", "", `"secure" is not a profile: want modern, intermediate or legacy`},
		{field[tlsopts.CipherOrder], "true", "true", ""},
		{field[tlsopts.CipherOrder], "off", "false", ""},
		{field[tlsopts.CipherOrder], "yes", "", `"yes" is neither true (our order of cipher suites decides) nor false (the client's)`},
		{field[tlsopts.Curves], "auto", "auto", ""},
		{field[tlsopts.Curves], "X25519, prime256v1 P-384:SECP521R1", "X25519:prime256v1:P-384:SECP521R1", ""},
		{field[tlsopts.Curves], "X25519:X448:ffdhe2048", "X25519:X448:ffdhe2048", ""},
		{field[tlsopts.Curves], "", "", "the list of curves is empty: want auto, or names such as X25519 and P-256"},
		{field[tlsopts.Curves], "X25519:auto", "", "auto must stand alone, not in a list of curves"},
		{field[tlsopts.Curves], "P-256:secp256r1", "", "the curve P-256 is in the list twice"},
		{field[tlsopts.Curves], "X448", "", "no curve remains that Go has (X448): add some, such as X25519 and P-256"},
		{field[tlsopts.Curves], "X25591", "", `"X25591" is not the name of a curve: did you mean "X25519"?`},
		{field[tlsopts.Curves], "X25519MLKEM786", "", `"X25519MLKEM786" is not the name of a curve: did you mean "X25519MLKEM768"?`},
		{field[tlsopts.Curves], "P256", "", `"P256" is not the name of a curve: did you mean "P-256"?`},
		{field[tlsopts.Curves], "curve25519", "", `"curve25519" is not the name of a curve: ` + curves},
		{field[tlsopts.ALPN], "strict", "strict", ""},
		{field[tlsopts.ALPN], "off", "off", ""},
		{field[tlsopts.ALPN], "on", "", `"on" is not an ALPN policy: want strict, off or a list of names`},
		{field[tlsopts.Version], "TLSv1.2", "TLSv1.2", ""},
		{field[tlsopts.Version], "1.2", "", `"1.2" is not a TLS version: want TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3`},
	} {
		target, value := test.into()
		if err := target.UnmarshalText([]byte(test.text)); errorText(err) != test.err || value() != test.value {
			t.Errorf("%T of %q: got %q, %v\nwant %q, %s", target, test.text, value(), err, test.value, test.err)
		}
	}
}

// field makes a target to unmarshal into, and a way to look at it.
func field[T any]() (encoding.TextUnmarshaler, func() string) {
	target := new(T)
	return any(target).(encoding.TextUnmarshaler), func() string { return fmt.Sprint(*target) }
}

func TestLists(t *testing.T) {
	for _, test := range []struct {
		names []string
		want  string
		err   string
	}{
		{[]string{"lmtp", "smtp"}, "lmtp,smtp", ""},
		{nil, "", "the list of ALPN names is empty: write off to accept every client"},
		{[]string{"smtp", "h2"}, "", `the ALPN name "h2" would let a browser in (RFC 9325 section 3.8): want names of mail protocols, such as smtp`},
		{[]string{"http/1.1"}, "", `the ALPN name "http/1.1" would let a browser in (RFC 9325 section 3.8): want names of mail protocols, such as smtp`},
		{[]string{"strict"}, "", `"strict" is an ALPN policy, not a name: it must stand alone, not in a list`},
		{[]string{"smtp", "smtp"}, "", `the ALPN name "smtp" is in the list twice`},
		{[]string{""}, "", "an ALPN name has 1 to 255 bytes, this one has 0"},
		{[]string{strings.Repeat("a", 256)}, "", "an ALPN name has 1 to 255 bytes, this one has 256"},
		{[]string{"a,b"}, "", `"a,b" is not an ALPN name: want printable ASCII without spaces and commas`},
	} {
		if got, err := tlsopts.ALPNOf(test.names...); string(got) != test.want || errorText(err) != test.err {
			t.Errorf("ALPNOf %q: got %q, %v", test.names, got, err)
		}
	}
	if got, err := tlsopts.CurvesOf("x25519", "prime256v1"); got != "x25519:prime256v1" || err != nil {
		t.Errorf("CurvesOf: got %q, %v", got, err)
	}
	for _, names := range [][]string{nil, {""}, {"P-256:P-384"}, {"auto", "P-256"}} {
		if got, err := tlsopts.CurvesOf(names...); err == nil {
			t.Errorf("CurvesOf %q: got %q", names, got)
		}
	}
}

func TestMerge(t *testing.T) {
	full := tlsopts.Options{
		Profile: tlsopts.Legacy, MinVersion: tlsopts.TLS11, MaxVersion: tlsopts.TLS12, Ciphers: "AES",
		HonorCipherOrder: tlsopts.ClientOrder, Curves: "X25519", ALPN: tlsopts.ALPNOff,
	}
	other := tlsopts.Options{
		Profile: tlsopts.Modern, MinVersion: tlsopts.TLS12, MaxVersion: tlsopts.TLS13, Ciphers: "HIGH",
		HonorCipherOrder: tlsopts.ServerOrder, Curves: tlsopts.CurvesAuto, ALPN: tlsopts.ALPNStrict,
	}
	for _, test := range []struct {
		name          string
		o, base, want tlsopts.Options
	}{
		{"all from base", tlsopts.Options{}, full, full},
		{"none from base", other, full, other},
		{"all defaults", tlsopts.Options{}, tlsopts.Options{}, tlsopts.Options{}},
		{"one field", tlsopts.Options{Curves: tlsopts.CurvesAuto}, full, func() tlsopts.Options {
			o := full
			o.Curves = tlsopts.CurvesAuto
			return o
		}()},
		{"versions", tlsopts.Options{MaxVersion: tlsopts.TLS13}, full, func() tlsopts.Options {
			o := full
			o.MaxVersion = tlsopts.TLS13
			return o
		}()},
		{"a profile decides on versions and ciphers", tlsopts.Options{Profile: tlsopts.Modern}, full, tlsopts.Options{
			Profile: tlsopts.Modern, HonorCipherOrder: tlsopts.ClientOrder, Curves: "X25519", ALPN: tlsopts.ALPNOff,
		}},
	} {
		if got := test.o.Merge(test.base); got != test.want {
			t.Errorf("%s\n got %+v\nwant %+v", test.name, got, test.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	for _, test := range []struct {
		options tlsopts.Options
		want    string
	}{
		{tlsopts.Options{}, `
profile       intermediate
versions      TLSv1.2, TLSv1.3
TLSv1.3       TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256 (fixed; crypto/tls takes what is fastest)
ciphers       ECDHE-ECDSA-AES128-GCM-SHA256, ECDHE-RSA-AES128-GCM-SHA256, ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES256-GCM-SHA384, ECDHE-ECDSA-CHACHA20-POLY1305, ECDHE-RSA-CHACHA20-POLY1305
cipher order  the server's
curves        X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024, X25519, P-256, P-384, P-521 (crypto/tls takes hybrid ones first)
ALPN          smtp, esmtp, submission (a client that offers only other names is refused)
`},
		{tlsopts.Options{Profile: tlsopts.Modern, Ciphers: "AES128-SHA", Curves: "X25519:X448", ALPN: tlsopts.ALPNOff}, `
profile       modern
versions      TLSv1.3
TLSv1.3       TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256 (fixed; crypto/tls takes what is fastest)
curves        X25519 (in this order)
ALPN          off
note: X448: passed over, Go has not these curves
note: ciphers has no effect, for it is about TLS 1.2 and below, which are off
`},
		{tlsopts.Options{Profile: tlsopts.Legacy, MaxVersion: tlsopts.TLS12, Ciphers: "ECDHE+AESGCM+aRSA", HonorCipherOrder: tlsopts.ClientOrder}, `
profile       legacy
versions      TLSv1, TLSv1.1, TLSv1.2
ciphers       ECDHE-RSA-AES256-GCM-SHA384, ECDHE-RSA-AES128-GCM-SHA256
cipher order  the client's
curves        X25519, P-256, P-384, P-521 (in the client's order)
ALPN          smtp, esmtp, submission (a client that offers only other names is refused)
note: TLSv1, TLSv1.1: cannot be used, because none of the cipher suites and curves fits
`},
	} {
		lines, err := test.options.Describe()
		if got := "\n" + strings.Join(lines, "\n") + "\n"; got != test.want || err != nil {
			t.Errorf("%+v (%v)\n got %s\nwant %s", test.options, err, got, test.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestCurveName(t *testing.T) {
	for id, want := range map[tls.CurveID]string{
		tls.X25519MLKEM768: "X25519MLKEM768", tls.X25519: "X25519", tls.CurveP256: "P-256", tls.CurveP521: "P-521", 30: "CurveID(30)",
	} {
		if got := tlsopts.CurveName(id); got != want {
			t.Errorf("%d is %q, want %q", id, got, want)
		}
	}
}
