package sni_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// kubelet writes files into dir as a Kubernetes volume: into a directory of
// their own, to which "..data" is switched at once. It removes the one before.
func kubelet(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	stamp := fmt.Sprintf("..2026_%d", time.Now().UnixNano())
	for name, data := range files {
		write(t, data, dir, stamp, name)
	}
	old, _ := os.Readlink(filepath.Join(dir, "..data"))
	relink(t, stamp, filepath.Join(dir, "..data"))
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		if _, err := os.Lstat(filepath.Join(dir, top)); err != nil {
			must(t, os.Symlink("..data/"+top, filepath.Join(dir, top)))
		}
	}
	if old != "" {
		must(t, os.RemoveAll(filepath.Join(dir, old)))
	}
}

func TestR27_SecretVolume(t *testing.T) {
	dir := t.TempDir()
	swap := func() {
		chain, key := issue(t, "a.example")
		kubelet(t, filepath.Join(dir, "a.example"), map[string][]byte{"tls.crt": chain, "tls.key": key})
	}
	swap()
	s := open(t, dir, sni.Options{Rescan: never})
	underLoad(t, s, "a.example")
	for range 4 {
		old := get(t, s, "a.example")
		swap()
		eventually(t, "the new Secret", served(t, s, "a.example", old))
	}
}

func TestR27_ProjectedVolume(t *testing.T) {
	dir := t.TempDir()
	swap := func(names ...string) {
		files := make(map[string][]byte)
		for _, name := range names {
			files[name+"/tls.crt"], files[name+"/tls.key"] = issue(t, name)
		}
		kubelet(t, dir, files)
	}
	swap("a.example", "b.example")
	s := open(t, dir, sni.Options{Default: "a.example", Rescan: never})
	get(t, s, "b.example")
	underLoad(t, s, "a.example", "b.example")
	for range 4 {
		oldA, oldB := get(t, s, "a.example"), get(t, s, "b.example")
		swap("a.example", "b.example", "c.example")
		eventually(t, "the new a", served(t, s, "a.example", oldA))
		eventually(t, "the new b", served(t, s, "b.example", oldB))
		eventually(t, "the new folder", func() bool { return s.Lookup("c.example").Kind == sni.Exact })
	}
	for _, watched := range s.Watched() {
		if _, err := os.Stat(watched); err != nil {
			t.Errorf("a watch was left behind: %v", err)
		}
	}
}

func TestR27_SwapBetweenChainAndKey(t *testing.T) {
	dir := tree(t, "a.example")
	volume := filepath.Join(dir, "b.example")
	swap := func() {
		chain, key := issue(t, "b.example")
		kubelet(t, volume, map[string][]byte{"tls.crt": chain, "tls.key": key})
	}
	swap()
	var swaps atomic.Int32
	hook := func(path string) (*os.File, error) {
		if strings.HasSuffix(path, "tls.key") && swaps.Add(1) == 1 {
			swap()
		}
		return sni.OpenNow(path)
	}
	s := openHooked(t, dir, sni.Options{Default: "a.example", Rescan: never}, sni.Hooks{Open: hook})
	if _, err := s.Certificate(t.Context(), s.Lookup("b.example")); err != nil {
		t.Error(err)
	}
	if swaps.Load() < 2 {
		t.Error("not read again")
	}
}
