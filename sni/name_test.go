package sni_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

var hostile = []string{
	"../a.example", "..", ".", "/etc/passwd", `..\a.example`, "%2e%2e/a", "..data", "a/b.example",
	"a.example\x00.evil", "a.example\n", "a .example", "*.example.com", "*", "müller.example", "\xff\xfe",
	"127.0.0.1", "::1", "[::1]", "fe80::1%eth0", "1.2.3", "12345", "a.example.", ".a.example", "a..example",
	"-a.example", "a-.example", "a.-example",
	strings.Repeat("a", 64) + ".example",
	strings.Repeat("a.", 126) + "ab",
	strings.Repeat("a.example.", 6000) + "example",
	strings.Repeat("x", 60_000),
}

func TestR23_ServerName(t *testing.T) {
	longest := strings.Repeat("a.", 126) + "b"
	valid := map[string]string{
		"a.example":                        "a.example",
		"MAIL.Example.COM":                 "mail.example.com",
		"_dmarc.example":                   "_dmarc.example",
		"_.example.com":                    "_.example.com",
		"xn--mller-kva.example":            "xn--mller-kva.example",
		"localhost":                        "localhost",
		"1.2.3.4.in-addr.arpa":             "1.2.3.4.in-addr.arpa",
		"4mail.1a":                         "4mail.1a",
		strings.Repeat("a", 63) + ".b":     strings.Repeat("a", 63) + ".b",
		longest:                            longest,
		"a--b.example":                     "a--b.example",
		"A-1_b.EXAMPLE":                    "a-1_b.example",
		strings.Repeat("Z", 63) + ".org.a": strings.Repeat("z", 63) + ".org.a",
	}
	for raw, want := range valid {
		if name, ok := sni.ServerName(raw); !ok || name != want {
			t.Errorf("ServerName(%q) = %q, %v; want %q", raw, name, ok, want)
		}
	}
	for _, raw := range append(hostile, "") {
		if name, ok := sni.ServerName(raw); ok || name != "" {
			t.Errorf("ServerName(%.80q) = %q, %v; want it refused", raw, name, ok)
		}
	}
	if n := testing.AllocsPerRun(100, func() { sni.ServerName("mail.customer.example") }); n != 0 {
		t.Errorf("%v allocations for a lower-case name", n)
	}
}

// TestALabels has the Unicode names of RFC 3492 section 7.1 that are labels,
// and some of the kind that is met.
func TestALabels(t *testing.T) {
	tests := map[string]string{
		"müller.example":   "xn--mller-kva.example",
		"MÜLLER.example":   "xn--mller-kva.example",
		"straße.example":   "xn--strae-oqa.example",
		"пример.испытание": "xn--e1afmkfd.xn--80akhbyknj4f",
		"例え.テスト":           "xn--r8jz45g.xn--zckzah",
		"他们为什么不说中文":        "xn--ihqwcrb4cv8a8dqg056pqjye",
		"почемужеонинеговорятпорусски": "xn--b1abfaaepdrnnbgefbadotcwatmq2g4l",
		"3年b組金八先生":             "xn--3b-ww4c5e180e575a65lsy2b",
		"*.bücher.example":     "*.xn--bcher-kva.example",
		"a.example":            "a.example",
		"mu\u0308ller.example": "",
		"☃.example":            "",
		"\xff.example":         "",
	}
	for name, want := range tests {
		if got := sni.ALabels(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func FuzzServerName(f *testing.F) {
	for _, raw := range append(slices.Clone(hostile[:len(hostile)-2]), "a.example", "MAIL.Example.COM", "_.example.com") {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		name, ok := sni.ServerName(raw)
		if !ok {
			if name != "" {
				t.Fatalf("refused, but returned %q", name)
			}
			return
		}
		if !strings.EqualFold(name, raw) || len(name) != len(raw) {
			t.Fatalf("%q became %q", raw, name)
		}
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Contains(name, "..") {
			t.Fatalf("%q came through", name)
		}
		if len(name) > 253 || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") {
			t.Fatalf("%q came through", name)
		}
		if again, ok := sni.ServerName(name); !ok || again != name {
			t.Fatalf("not stable: %q, then %q, %v", name, again, ok)
		}
	})
}
