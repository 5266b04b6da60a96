package sni_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// never is a Rescan that leaves everything to notifications.
const never = -1

func TestR29_Renewal(t *testing.T) {
	tests := map[string]func(t *testing.T, dir string){
		"atomic rename": func(t *testing.T, dir string) { renew(t, dir, "a.example") },
		"in place": func(t *testing.T, dir string) {
			chain, key := issue(t, "a.example")
			write(t, chain, dir, "a.example", "cert.pem")
			write(t, key, dir, "a.example", "key.pem")
		},
		"folder exchanged": func(t *testing.T, dir string) {
			renew(t, filepath.Dir(dir), "a.example")
			must(t, os.Rename(filepath.Join(dir, "a.example"), filepath.Join(dir, ".old")))
			must(t, os.Rename(filepath.Join(filepath.Dir(dir), "a.example"), filepath.Join(dir, "a.example")))
		},
		"folder made anew": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, "a.example")))
			renew(t, dir, "a.example")
		},
		"in place, byte by byte": func(t *testing.T, dir string) {
			chain, key := issue(t, "a.example")
			for name, data := range map[string][]byte{"cert.pem": chain, "key.pem": key} {
				f, err := os.OpenFile(filepath.Join(dir, "a.example", name), os.O_WRONLY|os.O_TRUNC, 0)
				must(t, err)
				for len(data) > 0 {
					n := min(len(data), 100)
					_, err := f.Write(data[:n])
					must(t, err)
					data = data[n:]
				}
				must(t, f.Close())
			}
		},
		"removed and written": func(t *testing.T, dir string) {
			chain, key := issue(t, "a.example")
			for name, data := range map[string][]byte{"cert.pem": chain, "key.pem": key} {
				must(t, os.Remove(filepath.Join(dir, "a.example", name)))
				write(t, data, dir, "a.example", name)
			}
		},
		"with the old times": func(t *testing.T, dir string) { rewrite(t, dir, "a.example") },
		"folder becomes a link": func(t *testing.T, dir string) {
			aside := t.TempDir()
			renew(t, aside, "a.example")
			must(t, os.RemoveAll(filepath.Join(dir, "a.example")))
			must(t, os.Symlink(filepath.Join(aside, "a.example"), filepath.Join(dir, "a.example")))
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, "a.example", "*.example")
			s := open(t, dir, sni.Options{Default: "a.example", Rescan: never})
			underLoad(t, s, "a.example")
			for range 3 { // what was done once may have ended the watch
				old := get(t, s, "a.example")
				change(t, dir)
				eventually(t, "the new pair", served(t, s, "a.example", old))
				must(t, os.RemoveAll(filepath.Join(dir, ".old")))
			}
		})
	}
}

func TestR29_KeyAndChainApart(t *testing.T) {
	dir := tree(t, "a.example")
	var r record
	s := open(t, dir, sni.Options{Rescan: never, Events: r.events()})
	underLoad(t, s, "a.example")
	old := get(t, s, "a.example")
	chain, key := issue(t, "a.example")
	write(t, key, dir, "a.example", "key.pem")
	eventually(t, "the mismatch is told", r.has("failed a.example: "))
	if serial(get(t, s, "a.example")) != serial(old) {
		t.Fatal("the last good pair is not in service")
	}
	write(t, chain, dir, "a.example", "cert.pem")
	written := time.Now()
	eventually(t, "the new pair", served(t, s, "a.example", old))
	t.Logf("in service %v after the last write", time.Since(written).Round(time.Millisecond))
}

func TestR28_FilesVanish(t *testing.T) {
	dir := tree(t, "a.example")
	var r record
	s := open(t, dir, sni.Options{Rescan: never, Events: r.events()})
	old := get(t, s, "a.example")
	must(t, os.Remove(filepath.Join(dir, "a.example", "cert.pem")))
	eventually(t, "the failure is told", r.has("failed a.example: "))
	if serial(get(t, s, "a.example")) != serial(old) || !s.Usable() {
		t.Error("the last good pair is not in service")
	}
	renew(t, dir, "a.example")
	eventually(t, "the new pair", served(t, s, "a.example", old))
}

func TestUnchangedContentIsNoRenewal(t *testing.T) {
	dir := tree(t, "a.example", "b.example")
	var r record
	s := open(t, dir, sni.Options{Default: "a.example", Rescan: never, Events: r.events()})
	old := get(t, s, "a.example")
	path := filepath.Join(dir, "a.example", "cert.pem")
	data, err := os.ReadFile(path)
	must(t, err)
	write(t, data, path)
	must(t, s.Reload(t.Context()))
	if get(t, s, "a.example") != old || r.count("renewed") != 0 {
		t.Errorf("a rewrite counts as renewal: %q", r.all())
	}
}

func TestCertbotLinks(t *testing.T) {
	base := t.TempDir()
	live, archive := filepath.Join(base, "live"), filepath.Join(base, "archive", "a.example")
	link := func(n int, names ...string) {
		for _, name := range names {
			relink(t, fmt.Sprintf("../../archive/a.example/%s%d.pem", name, n), filepath.Join(live, "a.example", name+".pem"))
		}
	}
	must(t, os.MkdirAll(filepath.Join(live, "a.example"), 0o755))
	issued := func(n int) {
		chain, key := issue(t, "a.example")
		write(t, chain, archive, fmt.Sprintf("cert%d.pem", n))
		write(t, chain, archive, fmt.Sprintf("fullchain%d.pem", n))
		write(t, key, archive, fmt.Sprintf("privkey%d.pem", n))
	}
	issued(1)
	link(1, "cert", "privkey", "fullchain")
	must(t, os.Symlink("live", filepath.Join(base, "certs")))
	s := open(t, filepath.Join(base, "certs"), sni.Options{Rescan: never})
	underLoad(t, s, "a.example")
	for n := 2; n < 5; n++ {
		old := get(t, s, "a.example")
		issued(n)
		link(n, "cert", "privkey", "fullchain")
		eventually(t, "the new pair", served(t, s, "a.example", old))
	}
	old := get(t, s, "a.example")
	issued(4) // rewritten where the links point, without a trace in the folder
	eventually(t, "the rewritten pair", served(t, s, "a.example", old))
}

func TestLinksToOneFolder(t *testing.T) {
	dir := tree(t, "*.example")
	names := []string{"a.example", "b.example", "c.example"}
	for _, name := range names {
		must(t, os.Symlink("*.example", filepath.Join(dir, name)))
	}
	s := open(t, dir, sni.Options{Default: "*.example", Rescan: never})
	var old = get(t, s, "d.example")
	for _, name := range names {
		get(t, s, name)
	}
	must(t, os.Remove(filepath.Join(dir, "b.example"))) // must not end the watch of the others
	eventually(t, "the link is gone", func() bool { return s.Lookup("b.example").Kind == sni.Wildcard })
	renew(t, dir, "*.example")
	for _, name := range append(names, "d.example") {
		eventually(t, "the new pair for "+name, served(t, s, name, old))
	}
}

func TestR29_FoldersComeAndGo(t *testing.T) {
	dir := tree(t, "a.example", "b.example")
	var r record
	s := open(t, dir, sni.Options{Default: "a.example", Rescan: never, Events: r.events()})
	get(t, s, "b.example")
	must(t, os.RemoveAll(filepath.Join(dir, "b.example")))
	eventually(t, "the folder is gone", func() bool { return s.Lookup("b.example").Kind == sni.Default })
	eventually(t, "the removal is told", r.has("removed b.example"))
	for folder := range s.Loaded() {
		if folder == "b.example" {
			t.Error("its pair is still there")
		}
	}
	if slices.Contains(s.Watched(), filepath.Join(dir, "b.example")) {
		t.Error("its watch is still there")
	}
	renew(t, dir, "b.example")
	eventually(t, "the folder is back", func() bool { return s.Lookup("b.example").Kind == sni.Exact })
	eventually(t, "its pair is served", func() bool { return get(t, s, "b.example").Leaf.DNSNames[0] == "b.example" })

	// An unmounted volume looks empty: that is no reason to serve nothing.
	must(t, os.RemoveAll(filepath.Join(dir, "a.example")))
	must(t, os.RemoveAll(filepath.Join(dir, "b.example")))
	eventually(t, "the emptiness is told", r.has("failed : certificate directory"))
	get(t, s, "")
}

func TestRescanWithoutNotifications(t *testing.T) {
	dir := tree(t, "a.example", "b.example")
	var r record
	deaf := func() (*fsnotify.Watcher, error) { return nil, fmt.Errorf("too many open files") }
	s := openHooked(t, dir, sni.Options{Default: "a.example", Rescan: 20 * time.Millisecond, Events: r.events()}, sni.Hooks{Notifier: deaf})
	old := get(t, s, "a.example")
	renew(t, dir, "a.example")
	renew(t, dir, "c.example")
	eventually(t, "the new pair", served(t, s, "a.example", old))
	eventually(t, "the new folder", func() bool { return s.Lookup("c.example").Kind == sni.Exact })
	must(t, os.RemoveAll(filepath.Join(dir, "b.example")))
	eventually(t, "the folder is gone", r.has("removed b.example"))
}

func TestPollingWithoutNotifications(t *testing.T) {
	dir := tree(t, "a.example", "b.example")
	var r record
	deaf := func() (*fsnotify.Watcher, error) { return nil, fmt.Errorf("too many open files") }
	s := openHooked(t, dir, sni.Options{Default: "a.example", Rescan: never, Events: r.events()}, sni.Hooks{Notifier: deaf})
	for _, name := range []string{"a.example", "b.example"} {
		old := get(t, s, name)
		renew(t, dir, name)
		eventually(t, "the new pair of "+name, served(t, s, name, old))
	}
	if n := r.count("warning : watching for renewals: too many open files"); n != 1 {
		t.Errorf("warned %d times: %q", n, r.all())
	}
}

func TestOverflowOfNotifications(t *testing.T) {
	var notifier *fsnotify.Watcher
	watch := func() (w *fsnotify.Watcher, err error) {
		notifier, err = fsnotify.NewWatcher()
		return notifier, err
	}
	var c counter
	s := openHooked(t, tree(t, "a.example", "b.example"), sni.Options{Default: "a.example", Rescan: never}, sni.Hooks{Open: c.open, Notifier: watch})
	get(t, s, "b.example")
	before := c.opened.Load()
	notifier.Errors <- fsnotify.ErrEventOverflow
	eventually(t, "the list and both pairs are read again", func() bool { return c.opened.Load() == before+7 })
}

// TestR28_UsableAgain: a server that is not usable turns clients away, so none
// of them can have the folder loaded that makes it usable.
func TestR28_UsableAgain(t *testing.T) {
	for name, o := range map[string]sni.Options{
		"default":    {Default: "a.example", Rescan: never},
		"no default": {Rescan: never},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, "a.example")
			s := open(t, dir, o)
			must(t, os.Mkdir(filepath.Join(dir, "empty.example"), 0o755))
			must(t, os.RemoveAll(filepath.Join(dir, "a.example")))
			eventually(t, "nothing can be served", func() bool { return !s.Usable() })
			renew(t, dir, "a.example")
			eventually(t, "the folder can be served", s.Usable)
		})
	}
}
