package sni

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// live is a folder that was asked for: it is renewed from then on.
type live struct {
	folder   string
	identity atomic.Pointer[Identity] // what handshakes get; nil until loaded, and once evicted
	failure  atomic.Pointer[failure]  // of the last reading; nil if that went well
	used     atomic.Int64             // when it was, to the second; from Store.began
	looked   atomic.Int64             // when its files were looked at because of that
	notified atomic.Bool              // the file system tells of all changes of its files
	gone     atomic.Bool              // no longer in the index
	stale    bool                     // not all could be read the last time; guarded by Store.publishing

	reading sync.Mutex  // held while its files are read
	queued  atomic.Bool // in used
	again   atomic.Bool // its files changed while they were read
	seen    *look       // of the last reading; guarded by reading
	failed  int         // how many in a row failed; guarded by reading

	stapleFailures int    // since a responder answered last; guarded by Store.publishing
	stapleFault    string // that was told; guarded by Store.publishing

	newer, older *live // in the cache, and guarded by its lock
	cached       bool
}

// unchanged reports whether reading the files again would give what it did the
// last time. After a failure, which may have been for want of a file descriptor
// or of memory, it does so for no more than a minute; yet it takes its time, as
// an encrypted key can cost a second of CPU in vain. The caller holds reading.
func (l *live) unchanged(now time.Time) bool {
	if l.failed > 0 && now.Sub(l.seenAt()) >= min(retryAfter<<min(l.failed, 10), time.Minute) {
		return false
	}
	return l.seen.stands()
}

func (l *live) seenAt() time.Time {
	if l.seen == nil {
		return time.Time{}
	}
	return l.seen.at
}

type failure struct {
	err error
	at  time.Time
}

// alive returns the live part of a folder, which it makes at the first call. A
// folder that is no longer in the index gets one that nobody else will find.
func (s *Store) alive(folder string) *live {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	l := &live{folder: strings.Clone(folder)}
	x := s.index.Load()
	i := x.number(folder)
	if i < 0 {
		l.gone.Store(true)
		return l
	}
	if !x.lives[i].CompareAndSwap(nil, l) {
		return x.lives[i].Load()
	}
	return l
}
