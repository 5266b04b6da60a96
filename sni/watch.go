package sni

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// watch knows which directories are watched for which folders. Directories
// are watched, not files: a watch on a file ends when another is renamed over
// it. They are watched by resolved path, as inotify knows an inode only once
// and tells its changes under one of several names.
type watch struct {
	mu       sync.Mutex
	notifier *fsnotify.Watcher   // nil if there are no notifications
	closed   bool                // nothing is followed any more
	root     string              // the certificate directory, resolved
	folders  map[string][]string // by watched directory
	dirs     map[string][]string // by folder
}

// maxWatched is how many folders are watched.
const maxWatched = 1024

// marks is what to look at.
type marks struct {
	index   bool            // the list of folders
	all     bool            // every folder asked for so far
	folders map[string]bool // these, if they were asked for
}

func newWatch() *watch {
	return &watch{
		folders: make(map[string][]string),
		dirs:    make(map[string][]string),
	}
}

// errNoNotifier stands for the error that was told when the watch was opened.
var errNoNotifier = errors.New("the file system's notifications are not available")

// followRoot watches the certificate directory, also if it was made anew.
func (w *watch) followRoot(dir string) error {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil // listing it fails too and tells why
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	old := w.root
	w.root = root
	w.release(old)
	return w.add(root)
}

// follow makes dirs the directories watched for a folder. It adds them anew
// even if they were watched: a directory may have been replaced since.
// Those below root, the certificate directory as it was named, are not resolved.
func (w *watch) follow(l *live, root string, dirs []string) (watched bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if root != w.root {
		for i, dir := range dirs {
			if name, ok := strings.CutPrefix(dir, root+string(filepath.Separator)); ok {
				dirs[i] = filepath.Join(w.root, name)
			}
		}
	}
	folder := l.folder
	old, again := w.dirs[folder]
	if w.closed || l.gone.Load() || !again && len(w.dirs) >= maxWatched {
		return false, nil
	}
	w.dirs[folder] = dirs
	var errs []error
	for _, dir := range dirs {
		if !slices.Contains(w.folders[dir], folder) {
			w.folders[dir] = append(w.folders[dir], folder)
		}
		errs = append(errs, w.add(dir))
	}
	for _, dir := range old {
		if !slices.Contains(dirs, dir) {
			w.unfollow(folder, dir)
		}
	}
	err = errors.Join(errs...)
	return err == nil, err
}

// drop ends the watches of a folder that is gone.
func (w *watch) drop(folder string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, dir := range w.dirs[folder] {
		w.unfollow(folder, dir)
	}
	delete(w.dirs, folder)
}

func (w *watch) unfollow(folder, dir string) {
	w.folders[dir] = slices.DeleteFunc(w.folders[dir], func(other string) bool { return other == folder })
	w.release(dir)
}

// release ends the watch of a directory that nobody needs any more.
func (w *watch) release(dir string) {
	if dir == w.root || len(w.folders[dir]) > 0 {
		return
	}
	delete(w.folders, dir)
	if w.notifier != nil {
		_ = w.notifier.Remove(dir) // an error means that it ended by itself
	}
}

func (w *watch) add(dir string) error {
	if w.notifier == nil {
		return errNoNotifier
	}
	if err := w.notifier.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // if it is gone already, the read that follows finds its successor
}

// concerned returns what the changed paths may concern.
func (w *watch) concerned(paths map[string]bool) marks {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := marks{folders: make(map[string]bool)}
	for path := range paths {
		dir, name := filepath.Dir(path), filepath.Base(path)
		switch {
		case path == w.root:
			m.index = true
		case dir == w.root && strings.HasPrefix(name, ".."): // "..data" of a projected volume
			m.index, m.all = true, true
		case dir == w.root && !skipped(name):
			m.index = true
			m.folders[name] = true // it may be another directory or link target now
		}
		for _, folder := range slices.Concat(w.folders[dir], w.folders[path]) {
			m.folders[folder] = true
		}
	}
	return m
}

func (w *watch) close() error {
	w.mu.Lock()
	notifier := w.notifier
	w.notifier, w.closed = nil, true
	w.mu.Unlock()
	if notifier == nil {
		return nil
	}
	return notifier.Close()
}
