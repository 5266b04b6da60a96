package sni

import (
	"os"
	"slices"
	"time"
	"unsafe"

	"github.com/fsnotify/fsnotify"
)

// Hooks replace what a Store asks of the system.
type Hooks struct {
	Open     func(path string) (*os.File, error)
	Notifier func() (*fsnotify.Watcher, error)
}

// OpenNow is what Hooks.Open replaces.
var OpenNow = openNow

// OpenHooked is Open with hooks.
func OpenHooked(dir string, o Options, h Hooks) (*Store, error) {
	s := newStore(dir, o)
	if h.Open != nil {
		s.disk.open = h.Open
	}
	if h.Notifier != nil {
		s.newNotifier = h.Notifier
	}
	if err := s.start(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// Watched returns the directories that are watched for folders.
func (s *Store) Watched() []string {
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	var dirs []string
	for dir := range s.watch.folders {
		dirs = append(dirs, dir)
	}
	return dirs
}

// TellExpiring is what happens each hour.
func (s *Store) TellExpiring() { s.tellExpiring() }

// RefreshAt is when a response is asked for again.
var RefreshAt = refreshAt

// MaxWatched is how many folders are watched.
const MaxWatched = maxWatched

// ALabels is what a folder with U-labels should be called.
var ALabels = aLabels

// CheckFolderName is what a folder is indexed by.
var CheckFolderName = checkFolderName

// IndexSize makes an index of folders and returns the bytes that it takes.
func IndexSize(folders []string) int {
	x, _ := newIndex(folders, "", emptyIndex())
	return len(x.names) + 4*len(x.ends) + 4*len(x.table) + len(x.lives)*int(unsafe.Sizeof(x.lives[0])) + len(x.known)*int(unsafe.Sizeof(x.known[0]))
}

// NewLookup returns the lookup of an index of folders alone.
func NewLookup(folders []string) func(serverName string) Match {
	s := &Store{}
	slices.Sort(folders)
	x, _ := newIndex(folders, "", emptyIndex())
	s.index.Store(x)
	return s.Lookup
}

// Settled reports whether a file that was changed at one time and read at
// another is known by its stamp.
func Settled(changed, read time.Time) bool {
	l := look{at: read}
	l.add("file", stamp{mtime: changed.Add(-time.Hour).UnixNano(), ctime: changed.UnixNano()})
	return l.settled()
}
