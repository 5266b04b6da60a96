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
