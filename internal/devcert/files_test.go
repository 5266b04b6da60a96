package devcert_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

func openCA(t *testing.T, dir string) (*devcert.CA, bool) {
	t.Helper()
	ca, made, err := devcert.OpenCA(dir, "kept")
	if err != nil {
		t.Fatal(err)
	}
	return ca, made
}

func TestOpenCA_IsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs", ".ca")
	first, made := openCA(t, dir)
	if !made {
		t.Error("the first call made no authority")
	}
	again, made := openCA(t, dir)
	if made || !bytes.Equal(first.PEM(), again.PEM()) {
		t.Error("the second call has another authority")
	}
	leaf := pair(t, again, devcert.Leaf{Names: []string{"a.example"}}).Leaf
	if !first.Issued(leaf) || newCA(t).Issued(leaf) {
		t.Error("it is not told whose the leaf is")
	}
	for file, want := range map[string]os.FileMode{"ca.pem": 0o644, "ca-key.pem": 0o600} {
		info, err := os.Stat(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", file, info.Mode(), want)
		}
	}
}

func TestOpenCA_OneOfManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	var made [8]bool
	var group sync.WaitGroup
	for i := range made {
		group.Go(func() {
			var err error
			if _, made[i], err = devcert.OpenCA(dir, "kept"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	count := 0
	for _, each := range made {
		if each {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d of %d calls made an authority, want one", count, len(made))
	}
}

func TestOpenCA_Refuses(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"a key for all":      {func(dir string) error { return os.Chmod(filepath.Join(dir, "ca-key.pem"), 0o644) }, "chmod 0600"},
		"a key without more": {func(dir string) error { return os.Remove(filepath.Join(dir, "ca.pem")) }, "only one is there"},
		"a link": {func(dir string) error {
			os.Remove(filepath.Join(dir, "ca.pem"))
			return os.Symlink("/etc/passwd", filepath.Join(dir, "ca.pem"))
		}, "not a regular file"},
		"no authority": {func(dir string) error {
			ca := newCA(t)
			cert, key, err := ca.Issue(devcert.Leaf{Names: []string{"a.example"}})
			if err != nil {
				return err
			}
			return devcert.WritePair(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"), cert, key)
		}, "not the certificate of an authority"},
		"another's key": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.pem"), newCA(t).PEM(), 0o644) }, "does not match"},
		"no PEM":        {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca-key.pem"), []byte("x"), 0o600) }, "ca-key.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			openCA(t, dir)
			if err := test.spoil(dir); err != nil {
				t.Fatal(err)
			}
			if _, _, err := devcert.OpenCA(dir, "kept"); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
}

// TestOpenCA_FollowsNoLink: no authority is made where a link leads, or taken
// from there.
func TestOpenCA_FollowsNoLink(t *testing.T) {
	elsewhere := t.TempDir()
	link := filepath.Join(t.TempDir(), ".ca")
	if err := os.Symlink(elsewhere, link); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, _, err := devcert.OpenCA(link, "kept"); err == nil || !strings.Contains(err.Error(), "is a link") {
			t.Errorf("error %v, want one of a link", err)
		}
		openCA(t, elsewhere)
	}
}

func TestWritePair_KeepsModes(t *testing.T) {
	for _, test := range []struct{ was, want os.FileMode }{{0o600, 0o600}, {0o640, 0o640}, {0o400, 0o400}, {0o644, 0o640}, {0o666, 0o640}} {
		dir := t.TempDir()
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		if err := os.WriteFile(key, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(key, test.was); err != nil {
			t.Fatal(err)
		}
		if err := devcert.WritePair(cert, key, []byte("a certificate"), []byte("a key")); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(key)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != test.want {
			t.Errorf("the mode of a key was %v and is %v, want %v", test.was, info.Mode(), test.want)
		}
	}
}

func TestWritePair_NothingIsLeftAside(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "cert.pem")
	if err := os.MkdirAll(filepath.Join(taken, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := devcert.WritePair(taken, filepath.Join(dir, "key.pem"), []byte("a certificate"), []byte("a key")); err == nil {
		t.Error("a folder was replaced by a certificate")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("there are %v, want cert.pem and key.pem", entries)
	}
}
