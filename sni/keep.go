package sni

import (
	"maps"
	"time"
)

// pollEvery is how often folders are looked at whose changes are not notified.
const pollEvery = time.Second

// keep keeps the store as the disk is until it is closed.
func (s *Store) keep() {
	var rescan, poll <-chan time.Time
	if s.options.Rescan > 0 {
		ticker := time.NewTicker(s.options.Rescan)
		defer ticker.Stop()
		rescan = ticker.C
	}
	for {
		if poll == nil && len(s.watch.unwatched()) > 0 {
			ticker := time.NewTicker(pollEvery)
			defer ticker.Stop()
			poll = ticker.C
		}
		select {
		case <-s.stop:
			return
		case <-s.changes.wake:
			s.changes.settle(s.stop)
			s.apply(s.changed(), s.look)
		case <-rescan:
			s.apply(marks{index: true, all: true}, s.glance)
		case <-poll:
			s.apply(marks{folders: s.watch.unwatched()}, s.glance)
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

// apply looks at what was marked, as far as it was ever asked for.
func (s *Store) apply(m marks, look func(*entry) (*pair, error)) {
	if m.index {
		s.tellIndexing(s.reindex())
		s.loadAgain()
	}
	if !m.all && len(m.folders) == 0 {
		return
	}
	for _, e := range s.index.Load().entries {
		if !e.asked.Load() || !m.all && !m.folders[e.folder] {
			continue
		}
		select {
		case <-s.stop:
			return
		default:
		}
		if !e.reading.TryLock() {
			// A load is under way, perhaps a slow one, and may have read the
			// files before they changed. Others do not wait for it.
			s.changes.addFolder(e.folder)
			continue
		}
		_, _ = look(e) // told by publish
		e.reading.Unlock()
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
	next, removed := old.next(folders, s.options.Default)
	s.index.Store(next)

	s.publishing.Lock()
	defer s.publishing.Unlock()
	for _, e := range removed {
		e.gone.Store(true)
		s.watch.drop(e.folder)
		s.events.Removed(e.folder)
	}
	s.events.Indexed(len(folders))
	if next.fallback == nil && (old.fallback != nil || len(old.entries) == 0) {
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
	if e := x.fallback; e != nil && e.pair.Load() == nil {
		_, _ = s.load(e) // told by publish
	}
	for _, e := range x.entries {
		if s.Usable() {
			return
		}
		_, _ = s.load(e)
	}
}

// tellRefused reports each folder that cannot be served once.
func (s *Store) tellRefused(refused []*FolderError) {
	told := make(map[string]bool, len(refused))
	for _, err := range refused {
		text := err.Error()
		told[text] = true
		if !s.told[text] {
			s.tell(func() { s.events.Failed(err.Folder, err) })
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
		if text != "" && text != s.lastIndexing {
			s.events.Failed("", err)
		}
		s.lastIndexing = text
	})
}

// follow watches the directories of an entry.
func (s *Store) follow(e *entry, dirs []string) {
	if err := s.watch.follow(e, dirs); err != nil {
		s.warnUnwatched(err)
		s.changes.poke() // let keep begin to poll
	}
}

// warnUnwatched tells once that notifications cannot be had.
func (s *Store) warnUnwatched(err error) {
	if err == nil {
		return
	}
	s.unwatched.Do(func() {
		s.tell(func() {
			s.events.Warning("", "watching for renewals: "+err.Error()+"; looking at the certificates in use each second instead (on Linux see fs.inotify.max_user_watches and max_user_instances)")
		})
	})
}

func (s *Store) tell(event func()) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	event()
}
