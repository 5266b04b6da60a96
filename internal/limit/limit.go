// Package limit bounds what clients may take: connections, of all clients
// together and of each one; handshakes that a client may begin in a second; and
// handshakes that are computed at once.
//
// A connection takes a [Slot] when it is accepted and gives it back when it is
// closed. A handshake takes a [Turn] for each piece of its work.
//
// A client is an IPv4 address or an IPv6 /64, which is what one customer of a
// provider gets. What is kept of clients is bounded by the connections that are
// open and, for the rates, by a number; it is forgotten within seconds after
// their last connection.
//
// The package knows no sockets and no replies: who refuses a client, and how,
// is the caller's part. All methods may be called from any goroutine, but those
// of one Slot or one Turn not at the same time.
package limit

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Why a connection is refused.
var (
	// ErrConnections is returned by Open.
	ErrConnections = errors.New("too many connections")
	// ErrClientConnections is returned by Slot.Admit.
	ErrClientConnections = errors.New("too many connections of this client")
	// ErrHandshakeRate is returned by Slot.Admit.
	ErrHandshakeRate = errors.New("too many handshakes of this client in a short time")
)

// Limits are the bounds. 0 or less is none.
type Limits struct {
	Connections          int // open at once, of all clients together
	ConnectionsPerClient int // open at once
	// HandshakesPerSecond is for each client. After a pause it may begin twice
	// as many at once.
	HandshakesPerSecond  int
	ConcurrentHandshakes int // with a Turn at once
}

// Limiter counts, and holds to Limits.
//
// One lock guards all of it: it is held for two or three map operations, which
// take a thousandth of what a connection costs otherwise.
type Limiter struct {
	start time.Time
	gate  atomic.Pointer[gate]

	mu      sync.Mutex // guards what follows
	limits  Limits
	open    int
	clients map[client]int // connections that are open, of each client with any
	recent  history
}

// New makes a Limiter.
func New(limits Limits) *Limiter {
	l := &Limiter{start: time.Now(), clients: make(map[client]int)}
	l.Set(limits)
	return l
}

// Set puts other limits in force. Connections that are open stay, and count
// against the new limits.
func (l *Limiter) Set(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits
	if g := l.gate.Load(); g == nil || cap(*g) != max(0, limits.ConcurrentHandshakes) {
		g := make(gate, max(0, limits.ConcurrentHandshakes))
		l.gate.Store(&g)
	}
}

// Open takes a slot for a connection that was accepted, or returns
// ErrConnections.
func (l *Limiter) Open() (Slot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limits.Connections > 0 && l.open >= l.limits.Connections {
		return Slot{}, ErrConnections
	}
	l.open++
	return Slot{limiter: l}, nil
}

// Connections is how many slots are taken.
func (l *Limiter) Connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Slot is one connection's place among those that are open. The zero value is
// none. A Slot must not be copied once it is in use.
type Slot struct {
	limiter  *Limiter
	client   client
	admitted bool
}

// Admit counts the connection, and the one handshake that it can have, for the
// client. It is called once, as soon as the client's address is known, and
// returns ErrClientConnections or ErrHandshakeRate where the client has enough
// of them. An address that is none counts for nobody.
func (s *Slot) Admit(address netip.Addr) error {
	l, c := s.limiter, clientOf(address)
	if !address.IsValid() {
		return nil
	}
	now := time.Since(l.start)
	l.mu.Lock()
	defer l.mu.Unlock()
	if limit := l.limits.ConnectionsPerClient; limit > 0 && l.clients[c] >= limit {
		return ErrClientConnections
	}
	if rate := l.limits.HandshakesPerSecond; rate > 0 && !l.recent.allow(c, rate, now) {
		return ErrHandshakeRate
	}
	l.clients[c]++
	s.client, s.admitted = c, true
	return nil
}

// Release gives the slot back. Only the first call does.
func (s *Slot) Release() {
	l := s.limiter
	if l == nil {
		return
	}
	s.limiter = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if !s.admitted {
		return
	}
	if l.clients[s.client]--; l.clients[s.client] == 0 {
		delete(l.clients, s.client)
	}
}
