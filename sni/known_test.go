package sni_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// TestKnown: what is known of a folder is told whether it is loaded, broken, or
// not read yet, and while it is told a first handshake of another is served.
func TestKnown(t *testing.T) {
	dir := tree(t, "a.example", "b.example", "*.c.example", "broken.example")
	must(t, os.Remove(filepath.Join(dir, "broken.example", "key.pem")))
	s, err := sni.Open(dir, sni.Options{Default: "a.example", Survey: -1})
	must(t, err)
	defer s.Close()
	var names []string
	for k := range s.Known() {
		names = append(names, k.Folder)
		if k.Folder != "*.c.example" { // the first
			continue
		}
		for _, name := range []string{"b.example", "broken.example"} { // takes the lock of events
			if _, err := s.GetCertificate(&tls.ClientHelloInfo{ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want := "*.c.example a.example b.example broken.example"; strings.Join(names, " ") != want {
		t.Errorf("folders %q, want %q", strings.Join(names, " "), want)
	}
	for name, dated := range map[string]bool{"a.example": true, "b.example": true, "*.c.example": false, "broken.example": false} {
		k, ok := s.KnownOf(name)
		if !ok || k.Folder != name || k.NotAfter().IsZero() == dated || len(k.Expiries()) == 1 != dated {
			t.Errorf("%s: %t, %+v, until %v, %v", name, ok, k, k.NotAfter(), k.Expiries())
		}
		if dated && !k.NotAfter().Equal(k.Expiries()[0].NotAfter) {
			t.Errorf("%s: %v is not %v", name, k.NotAfter(), k.Expiries())
		}
	}
	for _, name := range []string{"", "x.c.example", "none.example"} {
		if k, ok := s.KnownOf(name); ok {
			t.Errorf("%q: %+v", name, k)
		}
	}
	if allocs := testing.AllocsPerRun(10, func() {
		for range s.Known() {
		}
	}); allocs > 2 {
		t.Errorf("%v allocations to look through the folders", allocs)
	}
}
