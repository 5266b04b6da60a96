package sni_test

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

func TestR26_Precedence(t *testing.T) {
	dir := tree(t, "a.example.com", "*.example.com", "_.example.net", "default.example")
	s := open(t, dir, sni.Options{Default: "default.example"})
	tests := []struct {
		name, folder string
		kind         sni.Kind
		sent         sni.Name
	}{
		{"a.example.com", "a.example.com", sni.Exact, sni.NameKnown},
		{"A.Example.COM", "a.example.com", sni.Exact, sni.NameKnown},
		{"b.example.com", "*.example.com", sni.Wildcard, sni.NameKnown},
		{"_.example.com", "*.example.com", sni.Wildcard, sni.NameKnown},
		{"b.example.net", "_.example.net", sni.Wildcard, sni.NameKnown},
		{"_.example.net", "_.example.net", sni.Wildcard, sni.NameKnown},
		{"example.com", "default.example", sni.Default, sni.NameUnknown},
		{"a.b.example.com", "default.example", sni.Default, sni.NameUnknown},
		{"com", "default.example", sni.Default, sni.NameUnknown},
		{"*.example.com", "default.example", sni.Default, sni.NameUnusable},
		{"192.0.2.1", "default.example", sni.Default, sni.NameUnusable},
		{"", "default.example", sni.Default, sni.NameAbsent},
		{"default.example", "default.example", sni.Exact, sni.NameKnown},
	}
	for _, tt := range tests {
		m := s.Lookup(tt.name)
		if m.Folder != tt.folder || m.Kind != tt.kind || m.Name != tt.sent {
			t.Errorf("Lookup(%q) = %q, %v, %v; want %q, %v, %v", tt.name, m.Folder, m.Kind, m.Name, tt.folder, tt.kind, tt.sent)
		}
		if want := tt.sent == sni.NameUnknown || tt.sent == sni.NameUnusable; m.Unrecognized() != want {
			t.Errorf("Lookup(%q).Unrecognized() = %v", tt.name, !want)
		}
	}
}

func TestLookupWithoutDefault(t *testing.T) {
	var r record
	s := open(t, tree(t, "a.example", "b.example"), sni.Options{Events: r.events()})
	if m := s.Lookup("c.example"); m.Kind != sni.None || m.Folder != "" || !m.Unrecognized() {
		t.Errorf("unknown name: %+v", m)
	}
	if _, err := s.Certificate(t.Context(), s.Lookup("")); !errors.Is(err, sni.ErrNoFolder) {
		t.Errorf("no name: error %v", err)
	}
	if r.count("warning : there is no default") != 1 {
		t.Errorf("no warning that there is no default: %q", r.all())
	}
}

func TestFallback(t *testing.T) {
	dir := tree(t, "*.example.com", "default.example")
	must(t, os.Mkdir(filepath.Join(dir, "a.example.com"), 0o755))
	s := open(t, dir, sni.Options{Default: "default.example"})
	if got := get(t, s, "a.example.com").Leaf.DNSNames[0]; got != "*.example.com" {
		t.Errorf("broken exact folder: served %s", got)
	}
	m := s.Lookup("a.example.com")
	for _, want := range []string{"a.example.com", "*.example.com", "default.example", ""} {
		if m.Folder != want {
			t.Fatalf("fell to %q, want %q", m.Folder, want)
		}
		m = m.Fallback()
	}
	if m := s.Lookup("default.example").Fallback(); m.Kind != sni.None {
		t.Errorf("the default fell to itself: %+v", m)
	}
}

// counter counts what is opened.
type counter struct{ opened atomic.Int64 }

func (c *counter) open(path string) (*os.File, error) {
	c.opened.Add(1)
	return sni.OpenNow(path)
}

func TestR22_NoPathFromServerName(t *testing.T) {
	dir := tree(t, "a.example", "..2026_data", "default.example")
	write(t, nil, filepath.Dir(dir), "a.example", "cert.pem")
	var c counter
	s := openHooked(t, dir, sni.Options{Default: "default.example", Rescan: -1}, sni.Hooks{Open: c.open})
	before := c.opened.Load()
	for _, name := range append(hostile, "unknown.example", "cert.pem", "default", "..2026_data") {
		if cert := get(t, s, name); cert.Leaf.DNSNames[0] != "default.example" {
			t.Errorf("%.80q got %s", name, cert.Leaf.DNSNames[0])
		}
		if m := s.Lookup(name); m.Kind != sni.Default || !m.Unrecognized() {
			t.Errorf("Lookup(%.80q) = %+v", name, m)
		}
	}
	if n := c.opened.Load() - before; n != 0 {
		t.Errorf("%d files were opened for names without a folder", n)
	}
	for range 3 {
		get(t, s, "a.example")
	}
	if n := c.opened.Load() - before; n != 3 {
		t.Errorf("%d files were opened for three handshakes with a known name; want folder, chain and key once", n)
	}
}

func TestR25_FolderNames(t *testing.T) {
	refused := map[string]string{
		"Mail.Example.COM":     `rename the folder to "mail.example.com"`,
		"*.Example.org":        `rename the folder to "*.example.org"`,
		"müller.example":       `rename the folder to "xn--mller-kva.example"`,
		"*.bücher.example":     `rename the folder to "*.xn--bcher-kva.example"`,
		"mu\u0308ller.example": "not an A-label", // decomposed
		"192.0.2.1":            "not a server name",
		"a b.example":          "not a server name",
		"a.*.example":          "not a server name",
		"*.*.example":          "not a server name",
		"trailing.example.":    "not a server name",
		"_.twin.example":       `"*.twin.example" is the same wildcard`,
		"-.example":            "not a server name",
		"*.":                   "not a server name",
		"new\nline.example":    "not a server name",
		"a.example..":          "not a server name",
		"UPPER-ü.example.com":  "not an A-label",
	}
	dir := tree(t, "ok.example", "*.twin.example")
	for folder := range refused {
		must(t, os.Mkdir(filepath.Join(dir, folder), 0o755))
	}
	for _, folder := range []string{".hidden", "..data", "lost+found"} {
		must(t, os.Mkdir(filepath.Join(dir, folder), 0o755))
	}
	write(t, nil, dir, "README")
	must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling.example")))

	var r record
	s := open(t, dir, sni.Options{Default: "ok.example", Events: r.events()})
	must(t, s.Reload(t.Context())) // tells nothing twice
	for folder, text := range refused {
		found := 0
		for _, line := range r.all() {
			if strings.HasPrefix(line, "failed "+folder+": ") && strings.Contains(line, text) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%q: told %d times that %s", folder, found, text)
		}
	}
	if n := r.count("failed "); n != len(refused) {
		t.Errorf("%d failures, want %d: %q", n, len(refused), r.all())
	}
	if r.count("indexed 2") != 1 {
		t.Errorf("not two folders: %q", r.all())
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	s := open(t, tree(t, "a.example", "*.example.com"), sni.Options{Default: "a.example"})
	for _, name := range []string{"a.example", "b.example.com", "unknown.example", ""} {
		hello := &tls.ClientHelloInfo{ServerName: name}
		get(t, s, name)
		if n := testing.AllocsPerRun(100, func() { _, _ = s.GetCertificate(hello) }); n != 0 {
			t.Errorf("%q: %v allocations", name, n)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	broken := tree(t)
	for _, folder := range []string{"a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "g.example"} {
		must(t, os.Mkdir(filepath.Join(broken, folder), 0o755))
	}
	upper := tree(t)
	must(t, os.Mkdir(filepath.Join(upper, "A.example"), 0o755))
	file := filepath.Join(t.TempDir(), "certs")
	write(t, nil, file)
	tests := []struct {
		name, dir, folder string
		want              []string
	}{
		{"missing", "/no/such/certs", "", []string{"/no/such/certs", "no such file"}},
		{"file", file, "", []string{file, "it is a file"}},
		{"empty", t.TempDir(), "", []string{"no folder to serve", "mail.example.com"}},
		{"no name", "", "", []string{"no name given"}},
		{"upper case only", upper, "", []string{"no folder to serve", `rename the folder to "a.example"`}},
		{"none usable", broken, "", []string{"none of its 7 folders", "a.example: no certificate; looked for cert.pem with key.pem", "and 2 more"}},
		{"default missing", tree(t, "a.example", "b.example"), "x.example", []string{"x.example: no such folder", "a.example b.example"}},
		{"default a path", tree(t, "a.example"), "../a.example", []string{"no such folder"}},
		{"default broken", broken, "b.example", []string{"default certificate: ", "b.example: no certificate; looked for", "tls.crt with tls.key"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := sni.Open(tt.dir, sni.Options{Default: tt.folder})
			if err == nil {
				_ = s.Close()
				t.Fatal("opened")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
	_, err := sni.Open("/no/such/certs", sni.Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v does not wrap fs.ErrNotExist", err)
	}
}

func TestImpliedDefault(t *testing.T) {
	dir := tree(t, "a.example")
	s := open(t, dir, sni.Options{})
	if !s.Usable() {
		t.Error("not usable")
	}
	if m := s.Lookup(""); m.Kind != sni.Default || m.Folder != "a.example" {
		t.Errorf("the only folder is not the default: %+v", m)
	}
	renew(t, dir, "b.example")
	must(t, s.Reload(t.Context()))
	if m := s.Lookup(""); m.Kind != sni.None {
		t.Errorf("one of two folders is the default: %+v", m)
	}
	if !s.Usable() {
		t.Error("not usable with a loaded folder and no default")
	}
}
