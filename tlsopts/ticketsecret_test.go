package tlsopts_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// keyBytes are as random as the ticket keys of other servers are.
func keyBytes(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i*151 + 7)
	}
	return data
}

func TestTicketSecrets(t *testing.T) {
	utf8Secret := strings.Repeat("überlänge straße ", 3) + "."
	spaced := "a secret with spaces is a line of text like any other"
	for name, tt := range map[string]struct {
		data []byte
		want []string
	}{
		"one line":        {[]byte(secretOne + "\n"), []string{secretOne}},
		"no newline":      {[]byte(secretOne), []string{secretOne}},
		"two lines":       {[]byte(secretOne + "\n" + secretTwo + "\n"), []string{secretOne, secretTwo}},
		"CRLF":            {[]byte(secretOne + "\r\n\r\n" + secretTwo + "\r\n"), []string{secretOne, secretTwo}},
		"comments":        {[]byte("# the new secret is the first, the old one the last\n\n" + spaced + "\n  # old\n  " + secretTwo + "  "), []string{spaced, secretTwo}},
		"copies":          {[]byte(secretOne + "\n" + secretTwo + "\n" + secretOne), []string{secretOne, secretTwo}},
		"48 bytes":        {keyBytes(48), []string{string(keyBytes(48))}},
		"80 bytes":        {keyBytes(80), []string{string(keyBytes(80))}},
		"64 bytes":        {keyBytes(64), []string{string(keyBytes(64))}},
		"48 characters":   {[]byte(secretOne[:48]), []string{secretOne[:48]}},
		"UTF-8":           {[]byte(utf8Secret), []string{utf8Secret}},
		"newline in keys": {append(keyBytes(47), '\n'), []string{string(append(keyBytes(47), '\n'))}},
	} {
		got, err := tlsopts.ParseTicketSecrets(tt.data)
		texts := make([]string, 0, len(got))
		for _, secret := range got {
			texts = append(texts, string(secret))
		}
		if err != nil || !slices.Equal(texts, tt.want) {
			t.Errorf("%s: %q, %v", name, texts, err)
		}
	}

	many := ""
	for i := range 17 {
		many += string(rune('a'+i)) + secretOne + "\n"
	}
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"empty":        {nil, "no secret in the file"},
		"comment only": {[]byte("# put a secret here, of 48 characters or more, please\n"), "no secret in the file"},
		"short line":   {[]byte(secretOne + "\n\n" + secretTwo[:47] + "\n"), "line 3 has 47 characters; 48 is the least"},
		"47 bytes":     {keyBytes(47), "the secret has 47 bytes; 48 is the least"},
		"many":         {[]byte(many), "17 secrets; 16 is the limit"},
		"zeros":        {make([]byte, 48), "secret 1 has but 1 different bytes"},
		"spelt zeros":  {[]byte(secretOne + "\n" + strings.Repeat("01", 32)), "secret 2 has but 2 different bytes"},
	} {
		_, err := tlsopts.ParseTicketSecrets(tt.data)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v does not say %q", name, err, tt.want)
		} else if strings.Contains(err.Error(), secretOne[:12]) || strings.Contains(err.Error(), secretTwo[:12]) {
			t.Errorf("%s: the error has a secret", name)
		}
	}
}

func TestOpenTicketsErrors(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	noErr(t, syscall.Mkfifo(fifo, 0o600))
	large := filepath.Join(dir, "large")
	noErr(t, os.WriteFile(large, bytes.Repeat([]byte(secretOne+"\n"), 2000), 0o600))
	for name, tt := range map[string]struct {
		options tlsopts.TicketOptions
		want    string
	}{
		"short rotation":  {tlsopts.TicketOptions{Rotate: time.Second}, "session_tickets: rotate 1s is below 1m"},
		"negative":        {tlsopts.TicketOptions{Rotate: -time.Hour}, "rotate -1h0m0s is below"},
		"long lifetime":   {tlsopts.TicketOptions{Lifetime: 169 * time.Hour}, "lifetime 169h0m0s is not between 1s and 168h"},
		"no lifetime":     {tlsopts.TicketOptions{Lifetime: -1}, "lifetime -1ns is not between"},
		"missing file":    {tlsopts.TicketOptions{SecretFile: filepath.Join(dir, "none")}, "session_tickets: secret_file: stat " + dir},
		"directory":       {tlsopts.TicketOptions{SecretFile: dir}, dir + ": not a regular file"},
		"FIFO":            {tlsopts.TicketOptions{SecretFile: fifo}, "not a regular file"},
		"large":           {tlsopts.TicketOptions{SecretFile: large}, "larger than 65536 bytes"},
		"unusable secret": {tlsopts.TicketOptions{SecretFile: secretFile(t, "short")}, "line 1 has 5 characters"},
	} {
		tickets, err := tlsopts.OpenTickets(tt.options)
		if err == nil {
			_ = tickets.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v does not say %q", name, err, tt.want)
		}
	}
}

// TestTicketSecretChanges follows a secret from being the newest to being
// removed, and shows what a broken file does.
func TestTicketSecretChanges(t *testing.T) {
	clock := newClock()
	file := secretFile(t, secretOne)
	tickets := openTickets(t, tlsopts.TicketOptions{SecretFile: file, Time: clock.now})
	server := site{clock: clock, folders: []string{"a.example"}}.config(t, tickets)
	for _, version := range bothVersions {
		noErr(t, os.WriteFile(file, []byte(secretOne), 0o600))
		noErr(t, tickets.Reload())
		v := visitor{name: "a.example", version: version, clock: clock}
		var old, newer pocket
		v.visit(t, server, &old)

		noErr(t, os.WriteFile(file, []byte(secretTwo+"\n"+secretOne), 0o600))
		noErr(t, tickets.Reload())
		if !v.visit(t, server, old.frozen()) {
			t.Error("the older secret does not decrypt")
		}
		v.visit(t, server, &newer)

		noErr(t, os.Remove(file))
		if err := tickets.Reload(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no file: error %v", err)
		}
		noErr(t, os.WriteFile(file, []byte("half"), 0o600))
		if err := tickets.Reload(); err == nil {
			t.Error("no error for half a secret")
		}
		if !v.visit(t, server, old.frozen()) || !v.visit(t, server, newer.frozen()) {
			t.Error("a broken file has ended the use of the last good one")
		}

		noErr(t, os.WriteFile(file, []byte(secretTwo), 0o600))
		noErr(t, tickets.Reload())
		if v.visit(t, server, old.frozen()) {
			t.Error("resumed with a secret that is gone")
		}
		if !v.visit(t, server, newer.frozen()) {
			t.Error("the newer secret did not encrypt")
		}
	}
}

func TestTicketsWatch(t *testing.T) {
	file := secretFile(t, secretOne)
	synctest.Test(t, func(t *testing.T) {
		told := make(chan string, 100)
		tickets, err := tlsopts.OpenTickets(tlsopts.TicketOptions{SecretFile: file, Poll: time.Minute,
			Changed: func(n int) { told <- fmt.Sprintf("changed: %d", n) },
			Failed:  func(err error) { told <- err.Error() },
		})
		noErr(t, err)
		after := func(polls int, what string, want ...string) {
			t.Helper()
			time.Sleep(time.Duration(polls) * time.Minute) // in the bubble's time
			synctest.Wait()
			var got []string
			for len(told) > 0 {
				got = append(got, <-told)
			}
			if !slices.EqualFunc(got, want, strings.Contains) {
				t.Errorf("%s: told %q, want %q", what, got, want)
			}
		}
		after(3, "nothing new")
		noErr(t, os.WriteFile(file, []byte(secretTwo+"\n"+secretOne), 0o600))
		after(3, "another", "changed: 2")
		noErr(t, os.Remove(file))
		after(3, "removed", "no such file")
		noErr(t, os.WriteFile(file, []byte("half"), 0o600))
		after(3, "half", "line 1 has 4 characters")
		noErr(t, os.WriteFile(file, []byte(secretTwo+"\n"+secretOne), 0o600))
		after(3, "as it was")
		noErr(t, os.WriteFile(file, []byte("half"), 0o600))
		after(1, "half again", "line 1 has 4 characters")
		noErr(t, tickets.Close())
		noErr(t, tickets.Close())
		noErr(t, os.WriteFile(file, []byte(secretOne), 0o600))
		after(3, "closed")
	})
}

// TestTicketsOfBinaryFile shows that a key file of nginx's serves.
func TestTicketsOfBinaryFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ticket.key")
	noErr(t, os.WriteFile(file, keyBytes(80), 0o600))
	clock := newClock()
	s := site{clock: clock, folders: []string{"a.example"}}
	v := visitor{name: "a.example", version: tls.VersionTLS13, clock: clock}
	var p pocket
	for i := range 2 {
		if got := v.visit(t, s.config(t, openTickets(t, tlsopts.TicketOptions{SecretFile: file, Time: clock.now})), &p); got != (i == 1) {
			t.Errorf("visit %d: resumed %v", i+1, got)
		}
	}
}
