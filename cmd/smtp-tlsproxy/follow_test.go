package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// followed is a follower of one file, which is ended with the test.
func followed(t *testing.T, file string, notify func() (*fsnotify.Watcher, error)) *follower {
	t.Helper()
	f := follow(newLogging(io.Discard), notify, digestOf)
	t.Cleanup(f.close)
	f.use([]string{file}, 50*time.Millisecond)
	return f
}

func store(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFollowerWithoutNotifications(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	store(t, file, "one")
	f := followed(t, file, func() (*fsnotify.Watcher, error) { return nil, errors.New("none here") })
	store(t, file, "two")
	select {
	case <-f.changed:
	case <-time.After(20 * time.Second):
		t.Fatal("a change was not found")
	}
}

// TestFollowerComparesContent: what is the same as what was read is no change,
// nor is what was read meanwhile; other permissions are one, and so is the end.
func TestFollowerComparesContent(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "config.yaml")
	store(t, file, "one")
	f := followed(t, file, fsnotify.NewWatcher)
	for _, step := range []struct {
		name string
		do   func() error
		want bool
	}{
		{"written again", func() error { store(t, file, "one"); return nil }, false},
		{"replaced by the same", func() error { store(t, file+".new", "one"); return os.Rename(file+".new", file) }, false},
		{"written", func() error { store(t, file, "two"); return nil }, true},
		{"permissions", func() error { return os.Chmod(file, 0o644) }, true},
		{"removed", func() error { return os.Remove(file) }, true},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := f.differs(); got != step.want {
			t.Errorf("%s: differs is %v", step.name, got)
		}
		if f.look(); f.differs() {
			t.Errorf("%s: it differs from what was read", step.name)
		}
	}
}

func TestHopsAreAllNamesOnTheWay(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, folder := range []string{"..2026", "elsewhere"} {
		if err := os.Mkdir(in(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	store(t, in("..2026/config.yaml"), "")
	for link, target := range map[string]string{
		"..data": "..2026", "config.yaml": "..data/config.yaml", "elsewhere/config.yaml": in("config.yaml"), "loop": "loop",
	} {
		if err := os.Symlink(target, in(link)); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string][]string{
		"..2026/config.yaml":    {"..2026/config.yaml"},
		"elsewhere/config.yaml": {"elsewhere/config.yaml", "config.yaml", "..data", "..2026/config.yaml"},
		"missing":               {"missing"},
		"loop":                  {"loop"},
	} {
		var got []string
		for _, name := range hops(in(file)) {
			if name, err = filepath.Rel(dir, name); err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(got, name) {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
}
