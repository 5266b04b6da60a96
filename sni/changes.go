package sni

import (
	"errors"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long no event may come before the files are read: a
	// renewal is several writes, and the pair is whole only after the last.
	quiet = 100 * time.Millisecond
	// maxSettle bounds that wait, so that steady writes elsewhere in the
	// directory cannot put off a renewal for ever.
	maxSettle = 500 * time.Millisecond
	// maxPaths bounds what is collected while the disk is slow. With more it
	// costs less to look at everything.
	maxPaths = 10_000
)

// changes is what happened on disk since it was last looked at. Its lock is
// never held for long.
type changes struct {
	wake chan struct{} // there is something

	mu      sync.Mutex
	paths   map[string]bool // notified by the file system
	folders map[string]bool // to be looked at again
	lost    bool            // there were more than the paths
}

func newChanges() *changes {
	return &changes{wake: make(chan struct{}, 1), paths: make(map[string]bool), folders: make(map[string]bool)}
}

// listen collects what the file system notifies of until notifier is closed.
// It takes no lock but that of changes: fsnotify may hold its own while it
// waits for us, and who waits for that one in Add would never let us go on.
func (c *changes) listen(notifier *fsnotify.Watcher) {
	events, errs := notifier.Events, notifier.Errors
	for events != nil || errs != nil {
		select {
		case event, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			// The operation does not matter: a Kubernetes swap comes as
			// Create, Rename or Write, and a chmod may let us read at last.
			c.addPath(event.Name)
		case err, ok := <-errs:
			if !ok {
				errs = nil
				continue
			}
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				c.loseTrack()
			}
		}
	}
}

func (c *changes) addPath(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.paths) < maxPaths {
		c.paths[path] = true
	} else {
		c.lost = true
	}
	c.poke()
}

func (c *changes) addFolder(folder string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.folders[folder] = true
	c.poke()
}

func (c *changes) loseTrack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
	c.poke()
}

func (c *changes) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// settle waits until the changes pause.
func (c *changes) settle(stop <-chan struct{}) {
	limit := time.After(maxSettle)
	for {
		select {
		case <-c.wake:
		case <-time.After(quiet):
			return
		case <-limit:
			return
		case <-stop:
			return
		}
	}
}

// take returns the changes and forgets them.
func (c *changes) take() (paths, folders map[string]bool, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	paths, folders, lost = c.paths, c.folders, c.lost
	c.paths, c.folders, c.lost = make(map[string]bool), make(map[string]bool), false
	return paths, folders, lost
}
