package sni

import (
	"maps"
	"time"
)

const (
	// checkEvery is how often at most the files of a folder in use are looked
	// at. A look is three stats or so, 5 µs together, off the handshake's way.
	checkEvery = time.Second
	// workers is how many folders are looked at or renewed at once, so that
	// one on a disk that hangs does not hold up the others.
	workers = 4
)

// task is a folder to look at.
type task struct {
	l    *live
	full bool // something told of a change: read it whatever its files look like
}

// touch notes that a folder is in use, and has its files looked at, once a
// second. It does not wait for anything but the short lock of the cache.
func (s *Store) touch(l *live, now time.Time) {
	last, at := l.checked.Load(), int64(now.Sub(s.began))
	if at-last < int64(checkEvery) || !l.checked.CompareAndSwap(last, at) {
		return
	}
	s.cache.use(l)
	select {
	case s.tasks <- task{l: l}:
	default: // the disk is slow; the next handshake tries again
		l.checked.CompareAndSwap(at, last)
	}
}

// work looks at folders until the store is closed.
func (s *Store) work() {
	for {
		select {
		case <-s.stop:
			return
		case t := <-s.tasks:
			s.lookAt(t)
		}
	}
}

// lookAt reads a folder again if its files changed.
func (s *Store) lookAt(t task) {
	l := t.l
	if !l.reading.TryLock() {
		// A load is under way, perhaps a slow one, and may have read the files
		// before they changed. Others do not wait for it; doneReading comes back.
		l.again.Store(true)
		if !l.reading.TryLock() {
			return
		}
	}
	defer s.doneReading(l)
	if l.identity.Load() == nil && l.failure.Load() == nil { // evicted meanwhile
		return
	}
	if t.full || !l.seen.stands() {
		_, _ = s.read(l) // told by publish
	}
}

func (s *Store) doneReading(l *live) {
	l.reading.Unlock()
	if l.again.Swap(false) {
		s.changes.addFolder(l.entry.folder)
	}
}

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
		for _, e := range x.entries {
			if !s.have(e, full) {
				return
			}
		}
		return
	}
	for folder := range m.folders {
		if !s.have(x.entry(folder), full) {
			return
		}
	}
}

// have has a folder looked at. It returns false once the store is closed.
func (s *Store) have(e *entry, full bool) bool {
	if e == nil || e.live.Load() == nil {
		return true
	}
	select {
	case s.tasks <- task{e.live.Load(), full}:
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
	next, removed := old.next(folders, s.options.Default)
	s.index.Store(next)

	s.publishing.Lock()
	defer s.publishing.Unlock()
	for _, e := range removed {
		l := e.alive() // also if it is not: a load that begins now shall see it
		l.gone.Store(true)
		s.cache.remove(l)
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

// follow watches the directories of a folder.
func (s *Store) follow(l *live, dirs []string) {
	s.warnUnwatched(s.watch.follow(l, dirs))
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
