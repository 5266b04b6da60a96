package backend

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// fresh is the age up to which a look-up is not repeated for a client that
	// found no address: many may come at once.
	fresh = time.Second
	// lookupTimeout bounds a look-up; a resolver's own is often longer.
	lookupTimeout = 5 * time.Second
)

// keepLooking looks the host names up until Close.
func (p *Pool) keepLooking() {
	for p.life.Err() == nil {
		p.lookUp(p.life, 0)
		pause(p.life, p.config.LookupInterval)
	}
}

// pause waits a tenth more or less than the time, so that proxies that began
// together do not stay together.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d + time.Duration((rand.Float64()-0.5)/5*float64(d)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// lookUp looks up every host name whose newest result is older than maxAge. A
// name that cannot be looked up keeps its addresses: what served so far is
// better than nothing.
func (p *Pool) lookUp(ctx context.Context, maxAge time.Duration) {
	var names sync.WaitGroup
	defer names.Wait()
	for _, s := range p.sources {
		if s.host != "" {
			names.Go(func() { p.lookUpSource(ctx, s, maxAge) })
		}
	}
}

func (p *Pool) lookUpSource(ctx context.Context, s *source, maxAge time.Duration) {
	select {
	case s.asking <- struct{}{}: // who waits here gets the result of the one before
		defer func() { <-s.asking }()
	case <-ctx.Done():
		return
	}
	if p.isFresh(s, maxAge) {
		return
	}
	within, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := p.config.Resolver.LookupNetIP(within, "ip", s.host)
	if ctx.Err() != nil {
		return // it says nothing of the name
	}
	if err == nil && len(ips) == 0 {
		err = fmt.Errorf("lookup %s: %w", s.host, errNoAddress)
	}
	p.mu.Lock()
	defer p.tell()
	defer p.mu.Unlock()
	s.asked, s.err = time.Now(), err
	if err != nil {
		left := p.left()
		p.happened(!s.failed && p.config.Events.LookupFailed != nil, func() { p.config.Events.LookupFailed(s.host, err, left) })
		s.failed = p.started // else it is still to be told
		return
	}
	s.failed = false
	s.names = s.found(ips)
	p.relist()
}

func (p *Pool) isFresh(s *source, maxAge time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !s.asked.IsZero() && time.Since(s.asked) < maxAge
}

// lookupErrors are those of host names that have no address.
func (p *Pool) lookupErrors() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, s := range p.sources {
		if len(s.names) == 0 && s.err != nil {
			errs = append(errs, fmt.Errorf("backend %s: %w", p.config.Name, s.err))
		}
	}
	return errs
}

// relist makes the addresses of all sources those to dial. One that was there
// stays as it is; one that returns keeps the count of its connections, and all
// else begins anew. It needs mu.
func (p *Pool) relist() {
	gone := p.addresses
	p.addresses = nil
	for _, s := range p.sources {
		for _, name := range s.names {
			a := p.known[name]
			if a == nil {
				a = &address{network: Network(name), name: name}
				p.known[name] = a
			}
			if !slices.Contains(p.addresses, a) {
				p.addresses = append(p.addresses, a)
				a.host = s.host
			}
		}
	}
	for _, a := range gone {
		if !slices.Contains(p.addresses, a) {
			p.unlist(a)
		}
	}
	for _, a := range p.addresses {
		if !a.listed {
			a.listed, a.health = true, health{}
			if p.started && !p.closed {
				p.begin(a)
			}
		}
	}
}

// begin tells of a new address, and starts its checks. It needs mu.
func (p *Pool) begin(a *address) {
	name, host := a.name, a.host
	p.happened(p.config.Events.Added != nil, func() { p.config.Events.Added(name, host) })
	if p.config.Check == nil || p.config.Health.Interval < 0 {
		return
	}
	var ctx context.Context
	ctx, a.unwatch = context.WithCancel(p.life)
	p.tasks.Go(func() { p.watch(ctx, a) })
}

// unlist takes an address out. Its connections stay. It needs mu.
func (p *Pool) unlist(a *address) {
	a.listed = false
	if a.unwatch != nil {
		a.unwatch()
	}
	name, host := a.name, a.host
	p.happened(p.config.Events.Removed != nil, func() { p.config.Events.Removed(name, host) })
	p.forget(a)
}
