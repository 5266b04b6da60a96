package sni

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"
)

const (
	// maxLoads is how many pairs are read at once. A burst of first handshakes
	// must not take all file descriptors and processors.
	maxLoads = 16
	// retryAfter is how long a failed first load is taken for granted, unless
	// the file system notifies of a change.
	retryAfter = time.Second
)

// GetCertificate fits tls.Config.GetCertificate. It serves the first folder
// that has a usable pair: exact, wildcard, default.
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
	var failed error
	for m := s.Lookup(hello.ServerName); m.Kind != None; m = m.Fallback() {
		cert, err := s.Certificate(ctx, m)
		if err == nil {
			return cert, nil
		}
		if failed == nil {
			failed = err
		}
	}
	return nil, failed
}

// Certificate returns the pair of a match; the caller must not change it. The
// first call for a folder reads it from disk, once for all who ask meanwhile.
// The wait ends with ctx; the load goes on for those who come later.
//
// The error is ErrNoFolder for a match of Kind None, wraps that of ctx if the
// wait ended, and is a *FolderError if the folder has no usable pair. That one
// is remembered: on use the folder is read again at most once a second.
func (s *Store) Certificate(ctx context.Context, m Match) (*tls.Certificate, error) {
	e := m.entry
	if e == nil {
		return nil, ErrNoFolder
	}
	if cert, err, known := e.outcome(); known {
		return cert, err
	}
	loaded := s.loads.DoChan(e.folder, func() (any, error) { return s.load(e) })
	select {
	case result := <-loaded:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*tls.Certificate), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the certificate of %s: %w", e.folder, context.Cause(ctx))
	}
}

// outcome returns what is known without reading.
func (e *entry) outcome() (cert *tls.Certificate, err error, known bool) {
	if p := e.pair.Load(); p != nil {
		return p.cert, nil, true
	}
	if f := e.failure.Load(); f != nil && time.Since(f.at) < retryAfter {
		return nil, f.err, true
	}
	return nil, nil, false
}

func (s *Store) load(e *entry) (*tls.Certificate, error) {
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	e.asked.Store(true)
	e.reading.Lock()
	defer e.reading.Unlock()
	if cert, err, known := e.outcome(); known {
		return cert, err
	}
	p, err := s.look(e)
	if err != nil {
		return nil, err
	}
	return p.cert, nil
}

// look reads a folder and publishes the outcome. The caller holds e.reading,
// so that what is read later is published later.
func (s *Store) look(e *entry) (*pair, error) {
	p, err := s.disk.read(e.folder, func(dirs []string) { s.follow(e, dirs) })
	s.publish(e, p, err)
	return p, err
}

// glance looks only if a file is another than the one in service, by inode,
// size and time. It also renews watches that were lost.
func (s *Store) glance(e *entry) (*pair, error) {
	if p := e.pair.Load(); p != nil {
		if src, err := s.disk.locate(e.folder); err == nil && src.holds(p) {
			s.follow(e, src.watch)
			return p, nil
		}
	}
	return s.look(e)
}

// publish puts the outcome of a look into service. A failure leaves the last
// good pair there.
func (s *Store) publish(e *entry, p *pair, err error) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if e.gone.Load() { // Removed was told: nothing may follow
		return
	}
	if err != nil {
		e.failure.Store(&failure{err: err, at: time.Now()})
		if text := err.Error(); text != e.reported {
			e.reported = text
			s.events.Failed(e.folder, err)
		}
		return
	}
	e.reported = ""
	old := e.pair.Load()
	if old != nil && old.sum == p.sum {
		p.cert = old.cert
	}
	e.pair.Store(p)
	e.failure.Store(nil)
	switch {
	case old == nil:
		s.events.Loaded(e.folder, p.cert)
	case old.sum != p.sum:
		s.events.Renewed(e.folder, p.cert)
	default:
		return
	}
	for _, text := range p.warnings {
		s.events.Warning(e.folder, text)
	}
}
