package sni_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// deaf stands for a file system without notifications. In a bubble of synctest
// it has to, as no other goroutine may wait for the outside.
func deaf() (*fsnotify.Watcher, error) { return nil, fmt.Errorf("too many open files") }

// inBubble runs a test under a clock that jumps to where something is to be
// done. The folders are made by it, so that they are of its time.
func inBubble(t *testing.T, test func(t *testing.T)) {
	authority() // outside: it is used by other tests
	synctest.Test(t, test)
}

func loaded(s *sni.Store) (folders []string) {
	for folder := range s.Loaded() {
		folders = append(folders, folder)
	}
	return folders
}

func TestCacheLeavesLeastRecentlyUsed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		dir := tree(t, "default.example", "a.example", "b.example", "c.example", "d.example")
		var c counter
		var r record
		s := openHooked(t, dir, sni.Options{Default: "default.example", Rescan: never, Cache: 3, Events: r.events()}, sni.Hooks{Open: c.open, Notifier: deaf})
		use := func(name string) {
			t.Helper()
			time.Sleep(2 * time.Second) // use counts once a second
			if got := get(t, s, name).Leaf.DNSNames[0]; got != name {
				t.Fatalf("%s got the certificate of %s", name, got)
			}
		}
		want := func(folders ...string) {
			t.Helper()
			if got := loaded(s); !slices.Equal(got, folders) {
				t.Errorf("loaded %q, want %q", got, folders)
			}
		}
		use("a.example")
		use("b.example")
		want("a.example", "b.example", "default.example")
		use("a.example")
		use("c.example") // b is the least recently used; the default never goes
		want("a.example", "c.example", "default.example")
		if r.count("evicted b.example") != 1 || r.count("evicted") != 1 {
			t.Errorf("events %q", r.all())
		}

		// What cannot be read again now stays, whatever comes.
		write(t, nil, dir, "a.example", "cert.pem")
		use("a.example")
		synctest.Wait()
		time.Sleep(time.Second)
		if r.count("failed a.example") != 1 {
			t.Fatalf("events %q", r.all())
		}
		use("b.example")
		use("d.example")
		want("a.example", "d.example", "default.example")

		before := c.opened.Load()
		use("b.example") // and comes back when asked for
		if r.count("loaded b.example") != 3 || c.opened.Load() != before+3 {
			t.Errorf("%d files opened, events %q", c.opened.Load()-before, r.all())
		}
		must(t, s.Close())
	})
}

func TestCacheWithoutBound(t *testing.T) {
	s := open(t, tree(t, "a.example", "b.example", "c.example"), sni.Options{Cache: -1, Default: "a.example"})
	for _, name := range []string{"b.example", "c.example"} {
		get(t, s, name)
	}
	if got := loaded(s); len(got) != 3 {
		t.Errorf("loaded %q", got)
	}
}

// TestFilesAreLookedAtOnUse shows that a renewal of which nobody tells counts
// within a second of use, that handshakes do not wait for it, and that the
// looks cost no more than they must.
func TestFilesAreLookedAtOnUse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		dir := tree(t, "a.example")
		var c counter
		s := openHooked(t, dir, sni.Options{Rescan: never}, sni.Hooks{Open: c.open, Notifier: deaf})
		old, before := get(t, s, "a.example"), c.opened.Load()
		for range 1000 {
			get(t, s, "a.example")
			time.Sleep(10 * time.Millisecond)
		}
		if n := c.opened.Load() - before; n != 0 {
			t.Errorf("%d files were opened although none had changed", n)
		}
		for _, change := range []func(){
			func() { renew(t, dir, "a.example") },
			func() { rewrite(t, dir, "a.example") },
		} {
			change()
			for began := time.Now(); serial(get(t, s, "a.example")) == serial(old); time.Sleep(10 * time.Millisecond) {
				if time.Since(began) > 1100*time.Millisecond {
					t.Fatal("the new pair is not in service after a second of use")
				}
				synctest.Wait()
			}
			old = get(t, s, "a.example")
		}
		must(t, s.Close())
	})
}

// rewrite writes a new pair into the files in place, and gives them the times
// that they had, as cp -p and rsync -t do.
func rewrite(t *testing.T, dir, name string) {
	t.Helper()
	chain, key := issue(t, name)
	for file, data := range map[string][]byte{"cert.pem": chain, "key.pem": key} {
		path := filepath.Join(dir, name, file)
		info, err := os.Stat(path)
		must(t, err)
		write(t, data, path)
		must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	}
}

// TestUnwatchedFolders shows that folders beyond those that are watched are
// renewed on use.
func TestUnwatchedFolders(t *testing.T) {
	dir := tree(t, "pattern.example")
	pattern := filepath.Join(dir, "pattern.example")
	for i := range sni.MaxWatched {
		name := filepath.Join(dir, fmt.Sprintf("n%d.example", i))
		must(t, os.Mkdir(name, 0o755))
		for _, file := range []string{"cert.pem", "key.pem"} {
			must(t, os.Link(filepath.Join(pattern, file), filepath.Join(name, file)))
		}
	}
	renew(t, dir, "last.example")
	s := open(t, dir, sni.Options{Default: "pattern.example", Rescan: never})
	for i := range sni.MaxWatched - 1 {
		get(t, s, fmt.Sprintf("n%d.example", i))
	}
	old := get(t, s, "last.example")
	if n := len(s.Watched()); n != sni.MaxWatched {
		t.Fatalf("%d folders are watched, want %d", n, sni.MaxWatched)
	}
	if slices.Contains(s.Watched(), filepath.Join(dir, "last.example")) {
		t.Fatal("watched although there were enough")
	}
	renew(t, dir, "last.example")
	eventually(t, "the new pair on use", served(t, s, "last.example", old))

	must(t, os.RemoveAll(filepath.Join(dir, "n0.example"))) // makes room
	eventually(t, "the folder is gone", func() bool { return s.Lookup("n0.example").Kind == sni.Default })
	renew(t, dir, "last.example")
	old = get(t, s, "last.example")
	eventually(t, "the new pair on use", served(t, s, "last.example", old))
	if !slices.Contains(s.Watched(), filepath.Join(dir, "last.example")) {
		t.Error("not watched although there is room")
	}
}

// TestLoadsInFlight shows that more loads that hang than there are places
// keep no other name out.
func TestLoadsInFlight(t *testing.T) {
	dir := tree(t, "a.example", "fast.example")
	const hanging = 40
	for i := range hanging {
		must(t, os.Mkdir(filepath.Join(dir, fmt.Sprintf("slow%d.example", i)), 0o755))
	}
	release := make(chan struct{})
	hook := func(path string) (*os.File, error) {
		if matched, _ := filepath.Match(filepath.Join(dir, "slow*"), path); matched {
			<-release
		}
		return sni.OpenNow(path)
	}
	s := openHooked(t, dir, sni.Options{Default: "a.example"}, sni.Hooks{Open: hook})
	done := make(chan struct{})
	for i := range hanging {
		go func() {
			_, _ = s.GetCertificate(&tls.ClientHelloInfo{ServerName: fmt.Sprintf("slow%d.example", i)})
			done <- struct{}{}
		}()
	}
	if got := get(t, s, "fast.example").Leaf.DNSNames[0]; got != "fast.example" {
		t.Errorf("got %s", got)
	}
	close(release)
	for range hanging {
		<-done
	}
}
