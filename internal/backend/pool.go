package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Pool is an SMTP server that is reached under one or more addresses.
type Pool struct {
	config  Config
	sources []*source
	facts   atomic.Pointer[any]

	life  context.Context // ends with Close
	end   context.CancelFunc
	tasks sync.WaitGroup // look-ups and checks

	telling sync.Mutex // held while events are told; never together with mu

	mu        sync.Mutex
	addresses []*address          // those to dial
	known     map[string]*address // by name: these, and others that have open connections
	dials     uint64
	started   bool
	closed    bool
	events    []func() // to be told, in their order
}

// New makes a Pool. It does nothing by itself before Start, but can be dialled.
func New(config Config) (*Pool, error) {
	p := &Pool{config: config.withDefaults(), known: make(map[string]*address)}
	p.life, p.end = context.WithCancel(context.Background())
	for _, configured := range config.Addresses {
		s, err := newSource(configured)
		if err != nil {
			return nil, fmt.Errorf("backend %s: %w", config.Name, err)
		}
		p.sources = append(p.sources, s)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.relist()
	return p, nil
}

// Start puts the pool into service: host names are looked up and addresses
// checked from now on. It must be called at most once.
func (p *Pool) Start() {
	p.mu.Lock()
	defer p.tell()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.started = true
	for _, a := range p.addresses {
		p.begin(a)
	}
	if slices.ContainsFunc(p.sources, func(s *source) bool { return s.host != "" }) {
		p.tasks.Go(p.keepLooking)
	}
}

// Close ends the look-ups and the checks, and waits for them. The connections
// stay open, and sessions that have the pool still may dial; no events come
// any more.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed, p.events = true, nil
	p.mu.Unlock()
	p.end()
	p.tasks.Wait()
	p.telling.Lock() // an event may be on its way
	defer p.telling.Unlock()
}

// Dial connects to the address that is due for a client, or else to the next.
// Addresses that are down come last, those first that were up last: it fails
// only when every address did. The caller closes the connection. The error
// tells what each address said.
//
// Begin, if it is not nil, begins what the connection is for. An error of it
// ends the dial, too, unless it is an Elsewhere: then the address counts as one
// that could not be connected to. Dial closes the connection after both.
func (p *Pool) Dial(ctx context.Context, client netip.Addr, begin func(net.Conn) error) (net.Conn, error) {
	var (
		tried  []*address
		errs   []error
		looked bool
		key    = clientKey(client)
	)
	for {
		a := p.take(key, tried)
		if a == nil && !looked {
			// Whatever stands behind a host name may have moved since the last look.
			looked = true
			p.lookUp(ctx, fresh)
			continue
		}
		if a == nil {
			return nil, p.failure(ctx, errs)
		}
		tried = append(tried, a)
		conn, err := p.connect(ctx, a)
		if err == nil {
			if conn, err = p.begun(ctx, a, conn, begin); conn != nil {
				return conn, nil
			}
			if _, elsewhere := errors.AsType[*Elsewhere](err); !elsewhere {
				return nil, err
			}
			err = fmt.Errorf("address %s: %w", a.name, err)
		}
		errs = append(errs, fmt.Errorf("backend %s: %w", p.config.Name, err))
		if ctx.Err() != nil {
			return nil, errors.Join(errs...)
		}
	}
}

// Elsewhere is an error of a connection that came to nothing without the
// client's doing, so that it is worth to try the next address.
type Elsewhere struct{ Err error }

func (e *Elsewhere) Error() string { return e.Err.Error() }
func (e *Elsewhere) Unwrap() error { return e.Err }

// begun begins what a connection is for, and judges the address by that. It
// returns no connection where that failed.
func (p *Pool) begun(ctx context.Context, a *address, conn net.Conn, begin func(net.Conn) error) (net.Conn, error) {
	kept := false
	defer func() {
		if !kept { // after a panic, too
			conn.Close()
		}
	}()
	var err error
	if begin != nil {
		err = begin(conn)
	}
	if _, elsewhere := errors.AsType[*Elsewhere](err); elsewhere && ctx.Err() == nil {
		p.judge(a, func(h *health, now time.Time) bool { return h.connectFailed(now, err) })
	}
	if err != nil { // any other tells nothing of the address that a check would not tell better
		return nil, err
	}
	p.judge(a, func(h *health, now time.Time) bool { return h.connected(now) })
	kept = true
	return conn, nil
}

// failure is the error of a dial that found no more to try.
func (p *Pool) failure(ctx context.Context, errs []error) error {
	errs = append(errs, p.lookupErrors()...)
	if len(errs) == 0 { // the context ended before a look-up did
		errs = append(errs, fmt.Errorf("backend %s: %w", p.config.Name, cmp.Or(ctx.Err(), errNoAddress)))
	}
	return errors.Join(errs...)
}

// errNoAddress is a look-up that found nothing.
var errNoAddress = errors.New("no address")

// take finds the address that is due among those not tried, and counts a
// connection to it. It returns nil when all were tried.
func (p *Pool) take(client string, tried []*address) *address {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	var due *address
	for _, a := range p.addresses {
		if !slices.Contains(tried, a) && (due == nil || p.before(a, due, client, now)) {
			due = a
		}
	}
	if due != nil {
		p.dials++
		due.taken = p.dials
		due.open++
		due.try(now)
	}
	return due
}

// before tells whether a is to be dialled before b.
func (p *Pool) before(a, b *address, client string, now time.Time) bool {
	usable := a.usable(now)
	switch {
	case usable != b.usable(now):
		return usable
	case usable:
		return p.config.Balance.before(a, b, client)
	}
	return a.good.After(b.good)
}

// connect tries an address that take counted.
func (p *Pool) connect(ctx context.Context, a *address) (net.Conn, error) {
	within, cancel := context.WithTimeout(ctx, p.config.ConnectTimeout)
	defer cancel()
	c, err := p.config.DialContext(within, a.network, a.dialled())
	switch {
	case err == nil:
		return &conn{Conn: c, release: func() { p.release(a) }}, nil
	case ctx.Err() == nil:
		p.judge(a, func(h *health, now time.Time) bool { return !h.isOurs(err) && h.connectFailed(now, err) })
	}
	p.release(a)
	return nil, err
}

// release takes a connection out of those that are open.
func (p *Pool) release(a *address) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.open--
	p.forget(a)
}

// forget drops what is neither dialled nor has connections. It needs mu.
func (p *Pool) forget(a *address) {
	if !a.listed && a.open == 0 {
		delete(p.known, a.name)
	}
}

// judge changes what is known of an address, and tells if its state did. What
// comes late, of an address that is gone, is not told.
func (p *Pool) judge(a *address, verdict func(*health, time.Time) bool) {
	p.mu.Lock()
	defer p.tell()
	defer p.mu.Unlock()
	was, since, now := a.state, a.since, time.Now()
	if !verdict(&a.health, now) || !a.listed {
		return
	}
	name, err := a.name, a.err
	if a.state == Down {
		left := p.left()
		p.happened(p.config.Events.Down != nil, func() { p.config.Events.Down(name, err, left) })
		return
	}
	var down time.Duration
	if was == Down {
		down = now.Sub(since)
	}
	p.happened(p.config.Events.Up != nil, func() { p.config.Events.Up(name, down) })
}

// left is how many addresses are not down. It needs mu.
func (p *Pool) left() int {
	left := 0
	for _, a := range p.addresses {
		if a.state != Down {
			left++
		}
	}
	return left
}

// happened notes an event to be told, if somebody wants to know. It needs mu.
func (p *Pool) happened(wanted bool, event func()) {
	if wanted && p.started && !p.closed {
		p.events = append(p.events, event)
	}
}

// tell tells what happened, in its order, and without mu.
func (p *Pool) tell() {
	p.telling.Lock()
	defer p.telling.Unlock()
	for {
		p.mu.Lock()
		events := p.events
		p.events = nil
		p.mu.Unlock()
		if len(events) == 0 {
			return
		}
		for _, event := range events {
			event()
		}
	}
}
