package sni_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// TestNothingStandsInForAPolicy: a folder that may say who can connect is
// served itself or not at all; another one might ask for no client certificate.
func TestNothingStandsInForAPolicy(t *testing.T) {
	ca, _ := issue(t, "ca.example")
	tests := []struct {
		name   string
		files  map[string]string // of a.example.com, besides its pair
		broken bool              // its key
		failed bool              // want no certificate
	}{
		{"no policy", nil, true, false},
		{"ca.pem", map[string]string{"ca.pem": string(ca)}, true, true},
		{"broken ca.pem", map[string]string{"ca.pem": "x"}, false, true},
		{"tls.yaml", map[string]string{"tls.yaml": "a"}, true, true},
		{"broken tls.yaml", map[string]string{"tls.yaml": "bad"}, false, true},
	}
	settings := func(_ string, data []byte) (any, error) {
		if string(data) == "bad" {
			return nil, errors.ErrUnsupported
		}
		return "settings", nil
	}
	for _, fallback := range []string{"*.example.com", "default.example"} {
		for _, tt := range tests {
			t.Run(tt.name+" "+fallback, func(t *testing.T) {
				dir := tree(t, "a.example.com", fallback)
				for file, data := range tt.files {
					write(t, []byte(data), dir, "a.example.com", file)
				}
				if tt.broken {
					write(t, []byte("x"), dir, "a.example.com", "key.pem")
				}
				s := open(t, dir, sni.Options{Default: fallback, Rescan: never, FolderOptions: settings})
				for range 2 { // the second is of the failure that is remembered
					id, _, err := s.Serve(t.Context(), s.Lookup("a.example.com"))
					if failed := id == nil && err != nil; failed != tt.failed {
						t.Errorf("got %+v, %v", id, err)
					}
				}
			})
		}
	}
}

// TestNothingStandsInForTheUnknown: what a folder that cannot be listed says is
// not known; one that is gone says nothing.
func TestNothingStandsInForTheUnknown(t *testing.T) {
	for _, tt := range []struct {
		err    error
		failed bool
	}{{syscall.EMFILE, true}, {syscall.EACCES, true}, {syscall.ENOENT, false}} {
		dir := tree(t, "a.example", "default.example")
		hook := func(path string) (*os.File, error) {
			if filepath.Base(path) == "a.example" {
				return nil, &os.PathError{Op: "open", Path: path, Err: tt.err}
			}
			return os.Open(path)
		}
		s := openHooked(t, dir, sni.Options{Default: "default.example", Rescan: never}, sni.Hooks{Open: hook})
		id, _, err := s.Serve(t.Context(), s.Lookup("a.example"))
		if failed := id == nil && errors.Is(err, tt.err); failed != tt.failed {
			t.Errorf("%v: got %+v, %v", tt.err, id, err)
		}
	}
}

// TestR30_ExpiredPolicyHasNoStandIn: what expired stays in service where it says
// who can connect.
func TestR30_ExpiredPolicyHasNoStandIn(t *testing.T) {
	ca, _ := issue(t, "ca.example")
	for _, file := range []string{"ca.pem", "tls.yaml"} {
		dir := tree(t, "*.example.com")
		must(t, authority().WriteFolder(dir, "a.example.com", devcert.Leaf{Names: []string{"a.example.com"}, NotBefore: time.Now().Add(-2 * day), Lifetime: day}))
		write(t, ca, dir, "a.example.com", file)
		s := open(t, dir, sni.Options{Rescan: never, FolderOptions: func(string, []byte) (any, error) { return file, nil }})
		id, match, err := s.Serve(t.Context(), s.Lookup("a.example.com"))
		must(t, err)
		if id.Folder != "a.example.com" || match.Kind != sni.Exact {
			t.Errorf("%s: %s is served", file, id.Folder)
		}
	}
}
