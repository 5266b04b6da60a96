package sni

import (
	"sync"
	"time"
)

const (
	// checkEvery is how often at most the files of a folder in use are looked
	// at. A look is three stats or so, 5 µs together, off the handshake's way.
	checkEvery = time.Second
	// checkNotified is the same for folders of whose changes the file system
	// tells. Some say that they do and do not, as far as other machines make
	// them (NFS, the shared folders of virtual machines).
	checkNotified = 10 * time.Second
	// batchEvery is how long folders in use are collected for that.
	batchEvery = 20 * time.Millisecond
	// workers is how many folders are looked at or renewed at once, so that
	// one on a disk that hangs does not hold up the others.
	workers = 4
)

// task is a folder to look at.
type task struct {
	l    *live
	full bool // something told of a change: read it whatever its files look like
}

// touch notes once a second that a folder is in use, and has its files looked
// at. It waits for nothing but two short locks.
func (s *Store) touch(l *live, now time.Time) {
	last, at := l.used.Load(), int64(now.Sub(s.began))
	if at-last < int64(checkEvery) || !l.used.CompareAndSwap(last, at) {
		return
	}
	s.cache.use(l)
	if l.notified.Load() && at-l.looked.Load() < int64(checkNotified) {
		return
	}
	l.looked.Store(at)
	if !l.queued.Swap(true) {
		s.used.add(l)
	}
}

// used is the folders in use whose files are to be looked at.
type used struct {
	wake chan struct{} // there are some

	mu    sync.Mutex
	lives []*live
}

func (u *used) add(l *live) {
	u.mu.Lock()
	u.lives = append(u.lives, l)
	first := len(u.lives) == 1
	u.mu.Unlock()
	if first {
		select {
		case u.wake <- struct{}{}:
		default:
		}
	}
}

// take returns the folders and goes on with the memory of empty.
func (u *used) take(empty []*live) []*live {
	u.mu.Lock()
	defer u.mu.Unlock()
	taken := u.lives
	u.lives = empty[:0]
	return taken
}

// dispatch hands the folders in use to the workers, in batches: to wake one up
// for each would cost more than the look.
func (s *Store) dispatch() {
	var batch []*live
	for {
		select {
		case <-s.used.wake:
		case <-s.stop:
			return
		}
		if !s.sleep(batchEvery) {
			return
		}
		clear(batch)
		batch = s.used.take(batch)
		for _, l := range batch {
			l.queued.Store(false)
			select {
			case s.tasks <- task{l: l}:
			case <-s.stop:
				return
			}
		}
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
	if t.full || !l.unchanged(time.Now()) {
		_, _ = s.read(l) // told by publish
	}
}

func (s *Store) doneReading(l *live) {
	l.reading.Unlock()
	if l.again.Swap(false) {
		s.changes.addFolder(l.folder)
	}
}
