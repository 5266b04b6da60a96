package sni

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// fetchers is how many responders are asked at once, and fetchPause how
	// long each fetcher waits between two: 20 a second together, however many
	// names are loaded.
	fetchers   = 4
	fetchPause = 200 * time.Millisecond
	// After a failure it is tried again after firstRetry, and twice as long each
	// time, up to lastRetry. A response is good for days, and is asked for at
	// half its time.
	firstRetry = time.Minute
	lastRetry  = time.Hour
)

// stapler knows when something is to be done about the staples of a folder.
type stapler struct {
	wake chan struct{}

	mu  sync.Mutex
	due map[*live]time.Time
}

func newStapler() *stapler {
	return &stapler{wake: make(chan struct{}, 1), due: make(map[*live]time.Time)}
}

// plan sets the time for l, or none.
func (p *stapler) plan(l *live, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.IsZero() || l.gone.Load() {
		delete(p.due, l)
		return
	}
	p.due[l] = at
	p.poke()
}

func (p *stapler) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take returns a folder that is due, or how long until one is.
func (p *stapler) take(now time.Time) (l *live, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait = time.Hour
	for each, at := range p.due {
		if left := at.Sub(now); l == nil || left < wait {
			l, wait = each, left
		}
	}
	if l == nil || wait > 0 {
		return nil, wait
	}
	delete(p.due, l)
	p.poke() // there may be one for another fetcher
	return l, 0
}

// fetch keeps staples fresh until the store is closed.
func (s *Store) fetch() {
	for {
		l, wait := s.stapler.take(time.Now())
		if l != nil {
			s.restaple(l)
			if !s.sleep(fetchPause) {
				return
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.stapler.wake:
		case <-s.stop:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// planStaples sets when the staples of an identity that came into service are
// to be seen to. The caller holds publishing.
func (s *Store) planStaples(l *live, id *Identity) {
	l.stapleFailures = 0
	s.stapler.plan(l, s.nextStaple(id, time.Now(), 0))
}

// nextStaple is the first time that something is to be done, or zero.
func (s *Store) nextStaple(id *Identity, now time.Time, retry time.Duration) (next time.Time) {
	for i, cert := range id.Certificates {
		st, ask := id.staples[i], s.asks(id, cert)
		var at time.Time
		switch {
		case st == nil && ask, st != nil && st.fetched && !now.Before(st.refresh):
			at = now.Add(retry)
		case st != nil && st.fetched:
			at = st.refresh
		case st != nil: // of a file: somebody else renews it
			at = st.until
		default:
			continue
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// asks reports whether a responder is asked about a certificate.
func (s *Store) asks(id *Identity, cert *tls.Certificate) bool {
	return id.ocspPolicy(s.options) != OCSPOff && responder(cert) != ""
}

// restaple fetches what is due and takes out what is no longer good.
func (s *Store) restaple(l *live) {
	id := l.identity.Load()
	if id == nil {
		return
	}
	now, staples := time.Now(), slices.Clone(id.staples)
	var failed error
	for i, cert := range id.Certificates {
		st := staples[i]
		due := st == nil || st.fetched && !now.Before(st.refresh) || !st.good(now)
		if due && s.asks(id, cert) {
			fetched, err := s.fetchStaple(s.ctx, cert)
			if err == nil {
				st = fetched
			} else if failed = err; MustStaple(cert.Leaf) && !st.good(now) {
				failed = fmt.Errorf(demandsStaple, err)
			}
		}
		if !st.good(now) {
			if st != nil && failed == nil {
				failed = errors.New("the response expired and is no longer stapled")
			}
			st = nil
		}
		staples[i] = st
	}
	if s.ctx.Err() == nil { // else it failed because of that
		s.putStaples(l, id, staples, failed)
	}
}

// putStaples puts staples for id into service.
func (s *Store) putStaples(l *live, id *Identity, staples []*staple, failed error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if l.gone.Load() {
		return
	}
	if now := l.identity.Load(); now != id {
		if now != nil { // renewed meanwhile: what was fetched may not be for it
			s.planStaples(l, now)
		}
		return
	}
	if next := id.withStaples(staples); !sameStaples(id, next) {
		l.identity.Store(next)
		s.tellStapled(id, next)
		id = next
	}
	retry := firstRetry << min(l.stapleFailures, 10)
	if failed == nil {
		l.stapleFailures, l.stapleFault = 0, ""
	} else {
		l.stapleFailures++
		if text := failed.Error(); text != l.stapleFault {
			l.stapleFault = text
			s.events.Warning(id.Folder, filepath.Join(s.disk.dir, id.Folder)+": OCSP: "+text)
		}
	}
	s.stapler.plan(l, s.nextStaple(id, time.Now(), min(retry, lastRetry)))
}

// tellStapled tells of the staples that are new. The caller holds publishing.
func (s *Store) tellStapled(old, id *Identity) {
	for i, cert := range id.Certificates {
		st := id.staples[i]
		if st != nil && (old == nil || i >= len(old.staples) || old.staples[i] == nil || !bytes.Equal(old.staples[i].der, st.der)) {
			s.events.Stapled(id.Folder, cert, st.until)
		}
	}
}
