package main

import (
	"crypto/sha256"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// settleTime is how long a file must not have been written before it is read:
// an editor or a copy writes more than once.
const settleTime = time.Second

// follower tells when the files that a configuration was read from are not what
// they were. The file system notifies of most changes, and a look from time to
// time finds the others, as those on network file systems.
type follower struct {
	changed chan struct{} // has one when there may be something to read
	wake    chan struct{}
	stop    chan struct{}
	done    chan struct{}

	mu    sync.Mutex
	files map[string]digest // as they were before they were read last
	every time.Duration     // a look

	digestOf func(file string) digest

	notifier *fsnotify.Watcher // nil where the file system does not notify
	watched  map[string]bool   // the folders
	names    map[string]bool   // what to look out for in them
}

// digest is what a file holds, and who may read and write it.
type digest [sha256.Size]byte

// follow begins to follow nothing yet.
func follow(log *logging, newNotifier func() (*fsnotify.Watcher, error), digestOf func(file string) digest) *follower {
	f := &follower{
		changed: make(chan struct{}, 1), wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		files: make(map[string]digest), every: time.Hour, watched: make(map[string]bool), digestOf: digestOf,
	}
	var err error
	if f.notifier, err = newNotifier(); err != nil {
		log.Warn("no notifications of changes: the configuration file is looked at every certificates.rescan", "error", err)
	}
	go f.run()
	return f
}

// filesOf are the files that a configuration was read from. Those of ticket
// secrets have a watch of their own.
func filesOf(from source, cfg *config.Config) []string {
	files := from.files()
	for _, l := range cfg.Listeners {
		if ca := l.TLS.ClientAuth.CA; ca != "" && !slices.Contains(files, ca) {
			files = append(files, ca)
		}
	}
	for _, path := range filesOfBackends(cfg) {
		if !slices.Contains(files, *path) {
			files = append(files, *path)
		}
	}
	return files
}

// use follows these files instead of those before. What of them was followed
// already counts as read when look was called last, and the others as they are.
// So it is called before they are read.
func (f *follower) use(files []string, every time.Duration) {
	f.mu.Lock()
	next := make(map[string]digest)
	for _, file := range files {
		before, known := f.files[file]
		if !known {
			before = f.digestOf(file)
		}
		next[file] = before
	}
	f.files, f.every = next, every
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// look takes the files as they are now for read. It is called before they are,
// so that no change between the two is lost.
func (f *follower) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for file := range f.files {
		f.files[file] = f.digestOf(file)
	}
}

// differs tells whether a file is not what it was when it was read.
func (f *follower) differs() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for file, before := range f.files {
		if f.digestOf(file) != before {
			return true
		}
	}
	return false
}

// digestOf reads a file; one that can not be read is what the reason says. It
// opens no pipe, which would wait for a writer.
func digestOf(file string) digest {
	info, err := os.Stat(file)
	if err != nil {
		return sha256.Sum256([]byte(err.Error()))
	}
	if !info.Mode().IsRegular() {
		return sha256.Sum256([]byte(info.Mode().Type().String()))
	}
	hash := sha256.New()
	io.WriteString(hash, info.Mode().String())
	open, err := os.Open(file)
	if err == nil {
		defer open.Close()
		_, err = io.Copy(hash, open)
	}
	if err != nil {
		io.WriteString(hash, err.Error())
	}
	return digest(hash.Sum(nil))
}

func (f *follower) run() {
	defer close(f.done)
	var events chan fsnotify.Event
	var failures chan error
	if f.notifier != nil {
		defer f.notifier.Close()
		events, failures = f.notifier.Events, f.notifier.Errors
	}
	rest, settled := time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	settled.Stop()
	waiting := false // for settled
	find := func() {
		f.watch()
		if !waiting && f.differs() {
			waiting = true
			settled.Reset(settleTime)
		}
		rest.Reset(f.period())
	}
	for {
		select {
		case <-f.stop:
			return
		case <-failures: // events are lost: the next look finds what they told
		case event := <-events:
			if f.names[event.Name] {
				waiting = true
				settled.Reset(settleTime)
			}
		case <-f.wake: // to follow others
			find()
		case <-rest.C:
			find()
		case <-settled.C:
			waiting = false
			if f.watch(); f.differs() {
				select {
				case f.changed <- struct{}{}:
				default:
				}
			}
		}
	}
}

func (f *follower) period() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.every
}

// watch has the file system notify of the files as links lead to them now.
// Folders are watched, as a watch on a file ends when it is replaced.
func (f *follower) watch() {
	f.mu.Lock()
	files := slices.Collect(maps.Keys(f.files))
	f.mu.Unlock()
	f.names = make(map[string]bool)
	folders := make(map[string]bool)
	for _, file := range files {
		for _, name := range hops(file) {
			f.names[name] = true
			folders[filepath.Dir(name)] = true
		}
	}
	if f.notifier == nil {
		return
	}
	for folder := range f.watched {
		if !folders[folder] {
			_ = f.notifier.Remove(folder) // an error means that it ended by itself
		}
	}
	for folder := range folders {
		_ = f.notifier.Add(folder) // again, if it was made anew; without it a look must do
	}
	f.watched = folders
}

// maxHops is as many links as the kernel follows.
const maxHops = 40

// hops are the names by which a file is found: its own, and those of all links
// on the way, as Kubernetes' config.yaml → ..data → ..2026_11_24.
func hops(file string) []string {
	path, err := filepath.Abs(file)
	if err != nil {
		return nil
	}
	names := []string{path}
	for range maxHops {
		link, target, found := firstLink(path)
		if !found {
			return append(names, path)
		}
		names = append(names, link)
		rest := path[len(link):]
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, rest)
	}
	return names
}

// firstLink finds the first link among the folders of a path and its file.
func firstLink(path string) (link, target string, found bool) {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != filepath.Separator {
			continue
		}
		info, err := os.Lstat(path[:i])
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		if target, err = os.Readlink(path[:i]); err == nil {
			return path[:i], target, true
		}
	}
	return "", "", false
}

func (f *follower) close() {
	close(f.stop)
	patiently(func() { <-f.done })
}
