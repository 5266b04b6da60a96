package sni

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// maxLoads is how many folders are read at once. A burst of first
	// handshakes must not take all file descriptors and processors.
	maxLoads = 16
	// slowLoad is after what time a load gives its place to another, so that
	// folders on a disk that hangs, or keys with an expensive passphrase, do
	// not keep others out.
	slowLoad = 100 * time.Millisecond
	// maxSlow is how many loads there may be then. Each may hold a thread.
	maxSlow = 256
	// retryAfter is how long a failed first load is taken for granted, unless
	// the file system notifies of a change.
	retryAfter = time.Second
)

// anyConfig stands for the configuration that GetCertificate does not know.
// Pairs are then chosen by what the client says alone.
var anyConfig = &tls.Config{MinVersion: tls.VersionTLS10}

// GetCertificate fits tls.Config.GetCertificate. It serves the first folder
// that has a usable pair, as Serve does. With pairs of several key types the
// client gets the first that it supports of ECDSA, Ed25519 and RSA. A caller
// whose configuration leaves out cipher suites or curves that pairs depend on
// takes Serve and Identity.Certificate instead, which know them.
//
// With no folder and no default it returns (nil, nil). crypto/tls answers that
// with the alert unrecognized_name, provided that Config.Certificates is
// empty; with certificates there it would serve the first of them, and would
// not call GetCertificate for a client without a server name. If there are
// folders, but none can be loaded, it returns the first error: the alert is
// internal_error then, as the name is not at fault.
//
// Session tickets pass by this callback: with TLS 1.3 a ticket of one name
// resumes under any other. Set Config.SessionTicketsDisabled.
func (s *Store) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	ctx := hello.Context()
	if ctx == nil { // a ClientHelloInfo made by hand
		ctx = context.Background()
	}
	id, _, err := s.Serve(ctx, s.Lookup(hello.ServerName))
	if id == nil {
		return nil, err
	}
	return id.Certificate(anyConfig, hello), nil
}

// Serve returns the identity for a match, or for the best of its fallbacks:
// exact, wildcard, default. The match returned is that of the identity, or of
// Kind None.
//
// An exact folder all of whose certificates have expired loses to a wildcard
// folder with valid ones that cover the name. Nothing stands in for a folder
// with tls.yaml or ca.pem, neither then nor when it cannot be loaded: another
// one might ask for no client certificate where that one does.
//
// With no folder at all the results are nil without error. If there are
// folders, but none can be loaded, the first error is returned.
func (s *Store) Serve(ctx context.Context, m Match) (*Identity, Match, error) {
	var failed error
	now := time.Now()
	for ; m.Kind != None; m = m.Fallback() {
		id, err := s.identity(ctx, m, now)
		if err != nil {
			if failed == nil {
				failed = err
			}
			if f, ok := errors.AsType[*FolderError](err); !ok || f.alone {
				return nil, Match{}, failed
			}
			continue
		}
		if m.Kind == Exact && id.expired(now) && id.Options == nil && id.ClientCA == nil {
			if other, w := s.better(ctx, m, now); other != nil {
				return other, w, nil
			}
		}
		return id, m, nil
	}
	return nil, m, failed
}

// better returns the wildcard's identity in place of an expired exact one.
func (s *Store) better(ctx context.Context, m Match, now time.Time) (*Identity, Match) {
	if m = m.Fallback(); m.Kind != Wildcard {
		return nil, m
	}
	id, err := s.identity(ctx, m, now)
	if err != nil || id.expired(now) || !id.covers(m.serverName) {
		return nil, m
	}
	return id, m
}

// Certificate returns the first pair of a match; see Identity.
func (s *Store) Certificate(ctx context.Context, m Match) (*tls.Certificate, error) {
	id, err := s.Identity(ctx, m)
	if err != nil {
		return nil, err
	}
	return id.Certificates[0], nil
}

// Identity returns what the folder of a match holds; the caller must not change
// it. The first call for a folder reads it from disk, once for all who ask
// meanwhile. The wait ends with ctx; the load goes on for those who come later.
//
// The error is ErrNoFolder for a match of Kind None, wraps that of ctx if the
// wait ended, and is a *FolderError if the folder has no usable pair. That one
// is remembered: on use the folder is read again at most once a second.
func (s *Store) Identity(ctx context.Context, m Match) (*Identity, error) {
	if m.Kind == None {
		return nil, ErrNoFolder
	}
	return s.identity(ctx, m, time.Now())
}

func (s *Store) identity(ctx context.Context, m Match, now time.Time) (*Identity, error) {
	if l := m.index.lives[m.number].Load(); l != nil {
		if id := l.identity.Load(); id != nil {
			s.touch(l, now)
			return id, nil
		}
		if f := l.failure.Load(); f != nil && now.Sub(f.at) < retryAfter {
			return nil, f.err
		}
	}
	loaded := s.loads.DoChan(m.Folder, func() (any, error) { return s.load(s.alive(m.Folder)) })
	select {
	case result := <-loaded:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*Identity), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the certificate of %s: %w", m.Folder, context.Cause(ctx))
	}
}

// load reads a folder on demand.
func (s *Store) load(l *live) (*Identity, error) {
	defer s.queue.take()()
	l.reading.Lock()
	defer s.doneReading(l)
	if id := l.identity.Load(); id != nil { // renewed meanwhile
		return id, nil
	}
	if f := l.failure.Load(); f != nil {
		if time.Since(f.at) < retryAfter {
			return nil, f.err
		}
		if l.unchanged(time.Now()) {
			l.failure.Store(&failure{err: f.err, at: time.Now()})
			return nil, f.err
		}
	}
	id, err := s.read(l)
	if id != nil {
		err = nil // of pairs that the client can do without
	}
	return id, err
}

// read reads a folder, publishes the outcome and returns it as disk.read does.
// The caller holds l.reading, so that what is read later is published later.
func (s *Store) read(l *live) (*Identity, error) {
	l.again.Store(false)
	id, seen, err := s.disk.read(l.folder, s.options, l.identity.Load(), func(p places) { s.follow(l, p) })
	l.seen = seen
	if l.failed++; err == nil {
		l.failed = 0
	}
	return s.publish(l, id, err)
}

// publish puts the outcome of a reading into service, and returns it with the
// identity that is in service if nothing changed. A failure leaves there what
// was.
func (s *Store) publish(l *live, id *Identity, err error) (*Identity, error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if l.gone.Load() { // Removed was told: nothing may follow, but who waits is served
		if id != nil {
			l.identity.Store(id)
		}
		return id, err
	}
	s.tellFailure(l.folder, err)
	l.stale = id == nil || id.carried
	if id == nil {
		l.failure.Store(&failure{err: err, at: time.Now()})
		return nil, err
	}
	s.learn(l.folder, id)
	l.failure.Store(nil)
	l.used.Store(int64(time.Since(s.began)))
	l.looked.Store(l.used.Load())
	old := l.identity.Load()
	id = id.inherit(old, s.options)
	if old != nil && old.sum == id.sum {
		if !sameStaples(old, id) {
			l.identity.Store(id)
			s.planStaples(l, id)
			s.tellStapled(old, id)
			return id, err
		}
		return old, err
	}
	l.identity.Store(id)
	s.planStaples(l, id)
	if old == nil {
		s.events.Loaded(l.folder, id)
	} else {
		s.events.Renewed(l.folder, id)
	}
	for _, text := range id.warnings {
		s.events.Warning(l.folder, text)
	}
	s.tellStapled(old, id)
	s.cache.add(l)
	s.evict()
	return id, err
}

// evict takes the least recently used out of memory, but neither the default,
// nor what could not be read again at present, nor what is being read. The
// caller holds publishing.
func (s *Store) evict() {
	x := s.index.Load()
	fallback := ""
	if x.fallback >= 0 {
		fallback = x.folder(x.fallback)
	}
	out := s.cache.overflow(func(l *live) bool {
		return l.folder == fallback || l.stale || !l.reading.TryLock()
	})
	for _, l := range out {
		l.identity.Store(nil)
		l.seen = nil
		s.watch.drop(l.folder)
		s.stapler.plan(l, time.Time{})
		s.doneReading(l)
		s.events.Evicted(l.folder)
	}
}

// queue bounds the loads under way.
type queue struct {
	fast, slow chan struct{}
}

func newQueue() queue {
	return queue{fast: make(chan struct{}, maxLoads), slow: make(chan struct{}, maxSlow)}
}

// take waits for a place and returns the function that gives it back.
func (q queue) take() (release func()) {
	q.slow <- struct{}{}
	q.fast <- struct{}{}
	giveUp := sync.OnceFunc(func() { <-q.fast })
	timer := time.AfterFunc(slowLoad, giveUp)
	return func() {
		timer.Stop()
		giveUp()
		<-q.slow
	}
}
