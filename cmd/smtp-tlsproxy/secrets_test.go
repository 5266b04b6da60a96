package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// TestFolderInheritsAuthorities: a listener that asks for no certificate still
// lends its authorities to a folder that requires one, where a pin alone would
// let in whom they do not vouch for.
func TestFolderInheritsAuthorities(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	listener, err := clientAuthOf(config.ClientAuth{Mode: tlsopts.ClientAuthNone, CA: filepath.Join(s.certs(), "a.example", "cert.pem")})
	if err != nil {
		t.Fatal(err)
	}
	pins := []tlsopts.Pin{{1}}
	auth := proxy.Override{ClientAuthMode: tlsopts.ClientAuthRequire, ClientAuthPins: pins}.ClientAuth(listener, nil)
	if auth.CA == nil || auth.Mode != tlsopts.ClientAuthRequire || len(auth.Pins) != 1 {
		t.Errorf("the folder gets %+v", auth)
	}
	if _, err := clientAuthOf(config.ClientAuth{Mode: tlsopts.ClientAuthNone, CA: "/does/not/exist"}); !os.IsNotExist(err) {
		t.Errorf("error %v", err)
	}
}

// TestKeyLogFailsNoHandshake: a session keeps the key log with which it began,
// and that may be closed meanwhile.
func TestKeyLogFailsNoHandshake(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.log")
	cfg := &config.Config{Listeners: []config.Listener{{TLS: config.TLS{KeyLogFile: path}}}}
	s, err := openSecrets(cfg, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := s.keyLogOf(path)
	for range 2 {
		if n, err := w.Write([]byte("line\n")); n != 5 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		s.closeBut(nil)
	}
	if data, err := os.ReadFile(path); string(data) != "line\n" {
		t.Errorf("%q, %v", data, err)
	}
}
