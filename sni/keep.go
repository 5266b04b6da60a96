package sni

import (
	"maps"
	"strings"
	"time"
)

// keep keeps the store as the disk is until it is closed.
func (s *Store) keep() {
	var rescan <-chan time.Time
	if s.options.Rescan > 0 {
		ticker := time.NewTicker(s.options.Rescan)
		defer ticker.Stop()
		rescan = ticker.C
	}
	expiry := time.NewTicker(expiryEvery)
	defer expiry.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-expiry.C:
			s.tellExpiring()
		case <-s.changes.wake:
			s.changes.settle(s.stop)
			s.apply(s.changed(), true)
		case <-rescan:
			s.apply(marks{index: true, all: true}, false)
		}
	}
}

// changed returns what to look at since the last call.
func (s *Store) changed() marks {
	paths, folders, lost := s.changes.take()
	m := s.watch.concerned(paths)
	m.index = m.index || lost
	m.all = m.all || lost
	maps.Copy(m.folders, folders)
	return m
}

// apply has looked at what was marked, as far as it was ever asked for.
func (s *Store) apply(m marks, full bool) {
	if m.index {
		s.tellIndexing(s.reindex())
		s.loadAgain()
	}
	x := s.index.Load()
	if m.all {
		for i := range x.lives {
			if !s.have(x.lives[i].Load(), full) {
				return
			}
		}
		return
	}
	for folder := range m.folders {
		if i := x.number(folder); i >= 0 && !s.have(x.lives[i].Load(), full) {
			return
		}
	}
}

// have has a folder looked at. It returns false once the store is closed.
func (s *Store) have(l *live, full bool) bool {
	if l == nil { // never asked for
		return true
	}
	select {
	case s.tasks <- task{l, full}:
		return true
	case <-s.stop:
		return false
	}
}

// reindex reads the list of folders. On failure, which having no folder at all
// is (an unmounted volume looks so), the index stays as it is.
func (s *Store) reindex() error {
	s.indexing.Lock()
	defer s.indexing.Unlock()
	s.warnUnwatched(s.watch.followRoot(s.disk.dir))
	folders, refused, err := s.disk.list()
	if err != nil {
		return err
	}
	s.tellRefused(refused)
	old := s.index.Load()
	if old.lists(folders) {
		return nil
	}
	s.publishing.Lock()
	defer s.publishing.Unlock()
	next, removed := newIndex(folders, s.options.Default, old)
	s.index.Store(next)
	for _, i := range removed {
		if l := old.lives[i].Load(); l != nil {
			l.gone.Store(true)
			s.cache.remove(l)
			s.stapler.plan(l, time.Time{})
			s.watch.drop(l.folder)
		}
		s.events.Removed(strings.Clone(old.folder(i)))
	}
	s.events.Indexed(len(folders))
	if next.fallback < 0 && (old.fallback >= 0 || old.len() == 0) {
		s.events.Warning("", noDefault)
	}
	return nil
}

const noDefault = "there is no default certificate: clients without a server name, and those with an unknown one, cannot be served (RFC 8461 section 7.1 wants them served on port 25)"

// loadAgain sees to it, after the list of folders changed, that something can
// be served, as loadFirst does at the start. A server that is not Usable turns
// its clients away, so that none of them would ever have a folder loaded.
func (s *Store) loadAgain() {
	x := s.index.Load()
	if x.fallback >= 0 {
		if l := s.alive(x.folder(x.fallback)); l.identity.Load() == nil {
			_, _ = s.load(l) // told by publish
		}
	}
	for i := 0; i < x.len() && !s.Usable(); i++ {
		select {
		case <-s.stop:
			return
		default:
			_, _ = s.load(s.alive(x.folder(i)))
		}
	}
}

// tellRefused reports each folder that cannot be served once, and when it can
// be, or is gone.
func (s *Store) tellRefused(refused []*FolderError) {
	told := make(map[string]string, len(refused))
	for _, err := range refused {
		told[err.Folder] = err.Error()
		if s.told[err.Folder] != err.Error() {
			s.tell(func() { s.events.Failed(err.Folder, err) })
		}
	}
	for folder := range s.told {
		if told[folder] == "" {
			s.tell(func() { s.events.Mended(folder) })
		}
	}
	s.told = told
}

// tellIndexing reports each distinct failure to list the folders once.
func (s *Store) tellIndexing(err error) {
	var text string
	if err != nil {
		text = err.Error()
	}
	s.tell(func() {
		switch {
		case text == s.lastIndexing:
		case text == "":
			s.events.Mended("")
		default:
			s.events.Failed("", err)
		}
		s.lastIndexing = text
	})
}

// follow watches the directories of a folder.
func (s *Store) follow(l *live, p places) {
	watched, err := s.watch.follow(l, s.disk.dir, p.dirs)
	l.notified.Store(watched && p.complete)
	s.warnUnwatched(err)
}

// warnUnwatched tells once that notifications cannot be had.
func (s *Store) warnUnwatched(err error) {
	if err == nil {
		return
	}
	s.unwatched.Do(func() {
		s.tell(func() {
			s.events.Warning("", "watching for renewals: "+err.Error()+"; a new folder counts only at the next rescan, and a new certificate within a second of its name's use (on Linux see fs.inotify.max_user_watches and max_user_instances)")
		})
	})
}

func (s *Store) tell(event func()) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	event()
}
