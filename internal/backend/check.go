package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// watch checks an address at once and then again and again, until the context
// ends.
func (p *Pool) watch(ctx context.Context, a *address) {
	for ctx.Err() == nil {
		p.checkHealth(ctx, a)
		pause(ctx, p.config.Health.Interval)
	}
}

// checkHealth checks an address once and draws the consequences.
func (p *Pool) checkHealth(ctx context.Context, a *address) {
	facts, err := p.check(ctx, a)
	if ctx.Err() != nil {
		return // it was broken off
	}
	p.mu.Lock()
	p.happened(a.listed && p.config.Events.Checked != nil, func() { p.config.Events.Checked(a.name, err) })
	p.mu.Unlock()
	p.judge(a, func(h *health, now time.Time) bool {
		switch {
		case err == nil:
			p.facts.Store(&facts)
			return h.checkSucceeded(now, p.config.Health.Rise)
		case h.isOurs(err):
			h.err, h.failed = err, now
			return false
		}
		return h.checkFailed(now, err, p.config.Health.Fall)
	})
}

// check makes a connection of its own, which does not count as one that is open.
func (p *Pool) check(ctx context.Context, a *address) (facts any, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.config.Health.Timeout)
	defer cancel()
	conn, err := p.config.DialContext(ctx, a.network, a.dialled())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return p.config.Check(ctx, conn)
}

// CheckNow looks up the host names and checks each address once, at the same
// time, without consequences. It returns how many are good; the error tells of
// each that is not.
func (p *Pool) CheckNow(ctx context.Context) (good int, err error) {
	p.lookUp(ctx, fresh)
	errs := p.lookupErrors()
	p.mu.Lock()
	addresses := p.addresses
	p.mu.Unlock()
	results := make([]error, len(addresses))
	var checks sync.WaitGroup
	for i, a := range addresses {
		checks.Go(func() { results[i] = p.tellOf(a, p.checkOnly(ctx, a)) })
	}
	checks.Wait()
	for _, result := range results {
		if result == nil {
			good++
		}
	}
	return good, errors.Join(append(errs, results...)...)
}

func (p *Pool) checkOnly(ctx context.Context, a *address) error {
	_, err := p.check(ctx, a)
	return err
}

// tellOf puts into an error of an address where it comes from. An error of
// package net has the address already.
func (p *Pool) tellOf(a *address, err error) error {
	if err == nil {
		return nil
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return fmt.Errorf("backend %s: %w", p.config.Name, err)
	}
	return fmt.Errorf("backend %s: address %s: %w", p.config.Name, a.name, err)
}

// Facts is what the newest good check of any address found, nil before the
// first.
func (p *Pool) Facts() any {
	if facts := p.facts.Load(); facts != nil {
		return *facts
	}
	return nil
}

// Status is what there is to say of one address.
type Status struct {
	Address string // as in Events
	Host    string // the host name it was looked up from, if any
	State   State
	Since   time.Time // when the state began; zero for Unknown
	Open    int       // connections, and tries to make one
	// LastError is the newest failure of a connection or a check, nil when
	// there was none; it stays when the address is up again.
	LastError   error
	LastErrorAt time.Time
}

// Status tells of every address.
func (p *Pool) Status() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Status, 0, len(p.addresses))
	for _, a := range p.addresses {
		all = append(all, Status{
			Address: a.name, Host: a.host, State: a.state, Since: a.since, Open: a.open,
			LastError: a.err, LastErrorAt: a.failed,
		})
	}
	return all
}
