package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

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

// TestTicketKeysChangeLast: what can still be refused has changed no keys yet.
func TestTicketKeysChangeLast(t *testing.T) {
	t.Parallel()
	settings := config.SessionTickets{
		Enabled: true, SecretFile: filepath.Join(t.TempDir(), "secret"), Rotate: time.Hour, Lifetime: 24 * time.Hour,
	}
	cfg := &config.Config{Listeners: []config.Listener{{TLS: config.TLS{SessionTickets: settings}}}}
	one, two := "MTZ8aXQ0b3N3cWp5ZGZ2bmNneHVlbGJhcGtocm0yNTM3ODkw\n", "a9Xk2LmQ7rTz4WvB8nCy1HsD6gJf3PeUoIiRqAtZxSwEcVbN\n"
	store(t, settings.SecretFile, one)
	changes := 0
	tickets, err := tlsopts.OpenTickets(tlsopts.TicketOptions{
		SecretFile: settings.SecretFile, Rotate: settings.Rotate, Lifetime: settings.Lifetime, Poll: -1, Changed: func(int) { changes++ },
	})
	if err != nil {
		t.Fatal(err)
	}
	before := &secrets{tickets: map[config.SessionTickets]*tlsopts.Tickets{key(settings): tickets}}
	defer before.closeBut(nil)

	store(t, settings.SecretFile, two+one)
	next, err := openSecrets(cfg, before, newLogging(io.Discard))
	if err != nil || changes != 0 {
		t.Fatalf("opening the secrets: %d changes, %v", changes, err)
	}
	if next.ticketsOf(settings) != tickets {
		t.Error("the tickets were not taken over")
	}
	if next.renew(newLogging(io.Discard)); changes != 1 {
		t.Errorf("the keys changed %d times once the configuration was in force", changes)
	}
	store(t, settings.SecretFile, "too short\n")
	if _, err := openSecrets(cfg, before, newLogging(io.Discard)); err == nil {
		t.Error("a file without a secret is not refused")
	}
}
