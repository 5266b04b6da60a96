package sni

import (
	"os"

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
