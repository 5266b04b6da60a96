package sni_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

func TestSlowLoadHoldsUpNoOther(t *testing.T) {
	dir := tree(t, "a.example", "fast.example", "slow.example")
	release, opened := make(chan struct{}), atomic.Int32{}
	hook := func(path string) (*os.File, error) {
		if strings.Contains(path, "slow.example") {
			opened.Add(1)
			<-release
		}
		return sni.OpenNow(path)
	}
	s := openHooked(t, dir, sni.Options{Default: "a.example", Rescan: never}, sni.Hooks{Open: hook})
	ctx, cancel := context.WithCancelCause(t.Context())
	var waiting sync.WaitGroup
	for range 10 {
		waiting.Go(func() {
			if _, err := s.Certificate(t.Context(), s.Lookup("slow.example")); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "the load began", func() bool { return opened.Load() == 1 })
	hungUp := errors.New("hung up")
	cancel(hungUp)
	if _, err := s.Certificate(ctx, s.Lookup("slow.example")); !errors.Is(err, hungUp) {
		t.Errorf("error %v, want that of the context", err)
	}
	old := get(t, s, "fast.example")
	renew(t, dir, "slow.example") // nor may looking at it again
	renew(t, dir, "fast.example")
	eventually(t, "the renewal of another", served(t, s, "fast.example", old))
	close(release)
	waiting.Wait()
	if n := opened.Load(); n < 3 || n > 9 {
		t.Errorf("%d opens by ten callers; want folder, chain and key once, and again for the renewal", n)
	}
}

func TestFailedLoadIsRetried(t *testing.T) {
	dir := tree(t, "a.example", "b.example")
	must(t, os.Remove(filepath.Join(dir, "b.example", "key.pem")))
	var c counter
	var r record
	s := openHooked(t, dir, sni.Options{Default: "a.example", Rescan: never, Events: r.events()}, sni.Hooks{Open: c.open})
	for range 100 {
		if got := get(t, s, "b.example").Leaf.DNSNames[0]; got != "a.example" {
			t.Fatalf("served %s", got)
		}
	}
	if n := r.count("failed b.example"); n != 1 {
		t.Errorf("told %d times", n)
	}
	renew(t, dir, "b.example")
	eventually(t, "it is loaded without being asked for", r.has("loaded b.example"))
	if got := get(t, s, "b.example").Leaf.DNSNames[0]; got != "b.example" {
		t.Errorf("served %s", got)
	}
}

func TestNothingToFallBackOn(t *testing.T) {
	dir := tree(t, "a.example")
	must(t, os.Mkdir(filepath.Join(dir, "b.example"), 0o755))
	s := open(t, dir, sni.Options{})
	cert, err := s.GetCertificate(&tls.ClientHelloInfo{ServerName: "b.example"})
	var folder *sni.FolderError
	if cert != nil || !errors.As(err, &folder) {
		t.Errorf("broken folder: %v, %v; want the folder's error", cert, err)
	}
	cert, err = s.GetCertificate(&tls.ClientHelloInfo{ServerName: "c.example"})
	if cert != nil || err != nil {
		t.Errorf("unknown name: %v, %v; want nothing", cert, err)
	}
}

func TestReload(t *testing.T) {
	dir := tree(t, "a.example", "b.example", "c.example")
	s := open(t, dir, sni.Options{Default: "a.example", Rescan: never})
	must(t, s.Close())
	must(t, s.Close())
	old := get(t, s, "a.example")
	get(t, s, "b.example") // lookups and loads work after Close
	renew(t, dir, "a.example")
	renew(t, dir, "d.example")
	must(t, os.RemoveAll(filepath.Join(dir, "c.example")))
	must(t, s.Reload(t.Context()))
	if !served(t, s, "a.example", old)() {
		t.Error("a is not renewed")
	}
	if s.Lookup("c.example").Kind != sni.Default || s.Lookup("d.example").Kind != sni.Exact {
		t.Error("the folders were not listed again")
	}
	write(t, nil, dir, "b.example", "cert.pem")
	for range 2 {
		if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "b.example") {
			t.Errorf("error %v does not tell of b.example", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Reload(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	must(t, os.RemoveAll(dir))
	if err := s.Reload(t.Context()); err == nil {
		t.Error("no error without a directory")
	}
	get(t, s, "a.example")
}

// TestTransientFailure shows that a failure whose cause does not lie in the
// files passes without a change of them, and that meanwhile the folder is read
// less and less often.
func TestTransientFailure(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		dir := tree(t, "a.example", "b.example")
		var broken atomic.Bool
		var tries atomic.Int64
		hook := func(path string) (*os.File, error) {
			if strings.HasSuffix(path, "b.example/key.pem") {
				tries.Add(1)
				if broken.Load() {
					return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EMFILE}
				}
			}
			return sni.OpenNow(path)
		}
		broken.Store(true)
		s := openHooked(t, dir, sni.Options{Default: "a.example", Rescan: never}, sni.Hooks{Open: hook, Notifier: deaf})
		use := func(d time.Duration) {
			for range d / (100 * time.Millisecond) {
				get(t, s, "b.example")
				time.Sleep(100 * time.Millisecond)
			}
		}
		use(10 * time.Minute)
		if n := tries.Load() / 2; n < 10 || n > 20 { // each reading tries twice
			t.Errorf("read %d times in ten minutes", n)
		}
		broken.Store(false)
		use(time.Minute + time.Second)
		if got := get(t, s, "b.example").Leaf.DNSNames[0]; got != "b.example" {
			t.Errorf("got %s", got)
		}
		must(t, s.Close())
	})
}
