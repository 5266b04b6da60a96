package tlsopts_test

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func TestParseCiphers(t *testing.T) {
	const gcm = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
	const (
		noForward = ": weak, no forward secrecy: whoever gets the key can read recorded sessions (RFC 9325 section 4.1)"
		sweet32   = ": weak, 64-bit blocks (CVE-2016-2183, Sweet32)"
		lucky     = ": weak, Go has no countermeasure against Lucky Thirteen for CBC with SHA-256"
		seclevel  = ": applied to the suites only; the other options decide on versions, keys and groups"
		absent    = ": passed over, Go has none of these suites"
		tls13     = ": TLS 1.3 suites cannot be chosen in Go; all of its three are on wherever TLS 1.3 is"
	)
	for _, test := range []struct {
		name, text, suites string
		notes              []string
	}{
		{name: "keywords", text: "ECDHE+AESGCM", suites: gcm},
		{name: "IANA name", text: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suites: "ECDHE-RSA-AES128-GCM-SHA256"},
		{name: "IANA name combined", text: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256+AESGCM", suites: "ECDHE-RSA-AES128-GCM-SHA256"},
		{name: "IANA name of ChaCha20", text: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", suites: "ECDHE-ECDSA-CHACHA20-POLY1305"},
		{name: "IANA name taken out", text: "ECDHE+AESGCM:!ECDSA:!TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suites: "ECDHE-RSA-AES128-GCM-SHA256"},
		{name: "folded", text: "ECDHE+AESGCM+AES256:\n  ECDHE+AESGCM+AES128\n", suites: gcm},
		{name: "space before DEFAULT", text: " DEFAULT:!kRSA:!CBC:!CHACHA20", suites: gcm},
		{name: "SUITEB", text: "SUITEB192:HIGH", suites: "ECDHE-ECDSA-AES256-GCM-SHA384", notes: []string{
			"SUITEB192: what follows it has no effect, and curves must be set besides (P-256 and P-384)"}},
		{name: "Go has not", text: "DHE+AESGCM:CAMELLIA128-SHA:ECDHE+AESGCM:AESCCM", suites: gcm, notes: []string{
			"DHE+AESGCM, CAMELLIA128-SHA, AESCCM" + absent}},
		{name: "taken out what Go has not", text: "ECDHE+AESGCM:!DHE:!CAMELLIA:-PSK:+SRP:!EXPORT", suites: gcm},
		{name: "TLS 1.3", text: "TLS_AES_128_GCM_SHA256:ECDHE+AESGCM:!TLS_CHACHA20_POLY1305_SHA256:TLS13-AES-256-GCM-SHA384", suites: gcm, notes: []string{
			"TLS_AES_128_GCM_SHA256, !TLS_CHACHA20_POLY1305_SHA256, TLS13-AES-256-GCM-SHA384" + tls13}},
		{name: "RC4", text: "RC4-SHA:RC4:ECDHE+AESGCM", suites: gcm, notes: []string{
			"RC4-SHA, RC4: passed over, RC4 is prohibited (RFC 7465)"}},
		{name: "RC4 from all", text: "ALL:MEDIUM:!kRSA:!CBC:!CHACHA20", suites: gcm, notes: []string{"MEDIUM: passed over, no suite fits"}},
		{name: "retired", text: "EXPORT:kECDHr+AES:ECDHE+AESGCM", suites: gcm, notes: []string{
			"EXPORT, kECDHr+AES: passed over, current OpenSSL has none of these suites"}},
		{name: "contradiction", text: "RSA+ECDHE:ECDHE+AESGCM", suites: gcm, notes: []string{"RSA+ECDHE: passed over, no suite fits"}},
		{name: "excluded before", text: "!SHA1:ECDHE+AESGCM:ECDHE-RSA-AES128-SHA", suites: gcm, notes: []string{
			`ECDHE-RSA-AES128-SHA: passed over, an earlier "!" excludes all of it`}},
		{name: "level", text: "ECDHE+AESGCM:AES128-SHA@SECLEVEL=3", suites: gcm, notes: []string{"@SECLEVEL=3" + seclevel}},
		{name: "level 4 leaves out 3DES", text: "ECDHE+AESGCM+AES256:ECDHE+3DES:@SECLEVEL=4",
			suites: "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384", notes: []string{"@SECLEVEL=4" + seclevel}},
		{name: "level 2 has 3DES", text: "ECDHE+3DES:@SECLEVEL=2", suites: "ECDHE-RSA-DES-CBC3-SHA",
			notes: []string{"@SECLEVEL=2" + seclevel, "ECDHE-RSA-DES-CBC3-SHA" + sweet32}},
		{name: "3DES by keyword", text: "3DES", suites: "ECDHE-RSA-DES-CBC3-SHA:DES-CBC3-SHA", notes: []string{
			"DES-CBC3-SHA" + noForward, "ECDHE-RSA-DES-CBC3-SHA, DES-CBC3-SHA" + sweet32}},
		{name: "3DES by name, sorted", text: "TLS_RSA_WITH_3DES_EDE_CBC_SHA:ECDHE+AESGCM:@STRENGTH", suites: gcm + ":DES-CBC3-SHA", notes: []string{
			"DES-CBC3-SHA" + noForward, "DES-CBC3-SHA" + sweet32}},
		{name: "3DES after DEFAULT", text: "DEFAULT:3DES:!kRSA:!CBC:!CHACHA20", suites: gcm, notes: []string{
			`3DES: passed over, an earlier "!" excludes all of it`}},
		{name: "3DES taken out and put back", text: "ECDHE+AESGCM:ECDHE+3DES:-3DES:3DES+ECDHE", suites: gcm + ":ECDHE-RSA-DES-CBC3-SHA", notes: []string{
			"ECDHE-RSA-DES-CBC3-SHA" + sweet32}},
		{name: "weak", text: "AES128-SHA:AES128-SHA256", suites: "AES128-SHA:AES128-SHA256", notes: []string{
			"AES128-SHA, AES128-SHA256" + noForward, "AES128-SHA256" + lucky}},
	} {
		t.Run(test.name, func(t *testing.T) {
			list, err := tlsopts.ParseCiphers(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := list.String(); got != test.suites {
				t.Errorf("suites\n got %s\nwant %s", got, test.suites)
			}
			if !slices.Equal(list.Notes, test.notes) {
				t.Errorf("notes\n got %q\nwant %q", list.Notes, test.notes)
			}
		})
	}
}

func TestParseCiphersErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                            "the cipher string is empty: leave it out to take the profile's suites",
		" :; ":                        "the cipher string is empty: leave it out to take the profile's suites",
		strings.Repeat("AES:", 3000):  "the cipher string has 12000 bytes: want at most 8192",
		"ECDHE+AESGMC":                `"AESGMC" is not the name of a cipher suite or keyword: did you mean "AESGCM"?`,
		"ecdhe":                       `"ecdhe" is not the name of a cipher suite or keyword: did you mean "ECDHE"?`,
		"default":                     `"default" is not the name of a cipher suite or keyword: did you mean "DEFAULT"?`,
		"HIGH:!3DSE":                  `"3DSE" is not the name of a cipher suite or keyword: did you mean "3DES"?`,
		"ECDHE-RSA-AES128-GCM-SHA265": `"ECDHE-RSA-AES128-GCM-SHA265" is not the name of a cipher suite or keyword: did you mean "ECDHE-RSA-AES128-GCM-SHA256"?`,
		"TLS_ECDHE_RSA_WITH_AES128_GCM_SHA256": `"TLS_ECDHE_RSA_WITH_AES128_GCM_SHA256" is not the name of a cipher suite or keyword: ` +
			`did you mean "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"?`,
		"X": `"X" is not the name of a cipher suite or keyword: see "openssl ciphers -stdname ALL" for names, and openssl-ciphers(1) for keywords`,
		"PROFILE=SYSTEM": `"PROFILE=SYSTEM" is not the name of a cipher suite or keyword: ` +
			`Fedora's system-wide policy is not known here; leave ciphers out to take the profile's suites`,
		"HIGH:DEFAULT":   "DEFAULT must come first in a cipher string",
		"!DEFAULT":       "DEFAULT must come first in a cipher string",
		"AES+DEFAULT":    "DEFAULT must come first in a cipher string",
		"HIGH:SUITEB128": "SUITEB128 must come first in a cipher string",
		"DEFAULT+AES":    `DEFAULT cannot be combined with "+": want "DEFAULT:+NAME" to move suites to the end`,
		"AES+":           `a name is missing after "AES+" in the cipher string`,
		"AES++SHA":       `unexpected '+' after "AES+" in the cipher string: want names of suites and keywords with ":" between them`,
		"AES + SHA":      `a name is missing after "+" in the cipher string`,
		"HIGH:!":         `a name is missing after "!" in the cipher string`,
		"HIGH:! aNULL":   `a name is missing after "!" in the cipher string`,
		"!!AES":          `unexpected '!' after "!" in the cipher string: want names of suites and keywords with ":" between them`,
		"AES|SHA":        `unexpected '|' after "AES" in the cipher string: want names of suites and keywords with ":" between them`,
		"AESü":           `unexpected 'ü' after "AES" in the cipher string: want names of suites and keywords with ":" between them`,
		"'AES'":          `unexpected '\'' in the cipher string: want names of suites and keywords with ":" between them`,
		"AES@SECLEVEL=6": "@SECLEVEL=6: want a security level from 0 to 5",
		"AES@SECLEVEL=":  "@SECLEVEL=: want a security level from 0 to 5",
		"@SECLEVEL=10":   "@SECLEVEL=10: want a security level from 0 to 5",
		"AES@STRENGHT":   `"@STRENGHT" is not a command of cipher strings: want @STRENGTH or @SECLEVEL=n`,
		"AES@STRENGTH+SHA": `unexpected '+' after "@STRENGTH" in the cipher string: ` +
			`want names of suites and keywords with ":" between them`,
		"TLS_AES_128_GCM_SHA256": "the cipher string names only TLS 1.3 suites, which are always on: " +
			"add suites for TLS 1.2, or leave it out and set min_version to TLSv1.3",
		"DHE+AES:RC4:CAMELLIA": "no cipher suite remains that Go has; add some, such as ECDHE+AESGCM " +
			"(DHE+AES, CAMELLIA: passed over, Go has none of these suites; RC4: passed over, RC4 is prohibited (RFC 7465))",
		"HIGH:!HIGH": "no cipher suite remains that Go has; add some, such as ECDHE+AESGCM",
		"@STRENGTH":  "no cipher suite remains that Go has; add some, such as ECDHE+AESGCM",
	} {
		if list, err := tlsopts.ParseCiphers(text); err == nil || err.Error() != want || list.Suites != nil {
			t.Errorf("%.60q\n got %v %v\nwant %v", text, list, err, want)
		}
		c := tlsopts.Ciphers("before")
		if err := c.UnmarshalText([]byte(text)); err == nil || c != "before" {
			t.Errorf("UnmarshalText(%.60q) = %v and set %q", text, err, c)
		}
	}
}

func TestCiphersUnmarshalText(t *testing.T) {
	var c tlsopts.Ciphers
	if err := c.UnmarshalText([]byte("HIGH:!kRSA")); err != nil || c != "HIGH:!kRSA" {
		t.Errorf("got %q, %v", c, err)
	}
}

// A suite of Go that the table lacks could not be named.
func TestSuiteTableHasAllOfGo(t *testing.T) {
	for _, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, c := range list {
			if name := tlsopts.StandardNames()[c.ID]; name != c.Name && !slices.Contains(c.SupportedVersions, tls.VersionTLS13) {
				t.Errorf("0x%04X is %q in the table, %s in Go", c.ID, name, c.Name)
			}
		}
	}
}

func TestCipherSuiteName(t *testing.T) {
	for id, want := range map[uint16]string{
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-RSA-CHACHA20-POLY1305",
		tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA:               "DES-CBC3-SHA",
		0x009F:                                          "DHE-RSA-AES256-GCM-SHA384",
		tls.TLS_AES_128_GCM_SHA256:                      "TLS_AES_128_GCM_SHA256",
		0xFAFA:                                          "0xFAFA",
	} {
		if got := tlsopts.CipherSuiteName(id); got != want {
			t.Errorf("0x%04X: got %s, want %s", id, got, want)
		}
	}
}

func FuzzParseCiphers(f *testing.F) {
	for _, s := range cipherStrings(f) {
		f.Add(s)
	}
	known := tlsopts.StandardNames()
	f.Fuzz(func(t *testing.T, s string) {
		list, err := tlsopts.ParseCiphers(s)
		if (err == nil) != (len(list.Suites) > 0) {
			t.Fatalf("%d suites with error %v", len(list.Suites), err)
		}
		seen := make(map[uint16]bool)
		for _, id := range list.Suites {
			if known[id] == "" || seen[id] {
				t.Errorf("suite 0x%04X is unknown or twice in the list", id)
			}
			seen[id] = true
		}
		again, errAgain := tlsopts.ParseCiphers(s)
		if !slices.Equal(again.Suites, list.Suites) || !slices.Equal(again.Notes, list.Notes) || (err == nil) != (errAgain == nil) {
			t.Error("a second run gives something else")
		}
		if err != nil {
			if err.Error() != errAgain.Error() {
				t.Errorf("a second run says %v, not %v", errAgain, err)
			}
			return
		}
		if back, err := tlsopts.ParseCiphers(list.String()); err != nil || !slices.Equal(back.Suites, list.Suites) {
			t.Errorf("its own list %s gives %s, %v", list, back, err)
		}
	})
}
