package proxy

import (
	"context"
	"net"
	"net/netip"
)

// DialFunc is a way to a backend of the test's own.
type DialFunc func(context.Context) (net.Conn, error)

// Dial calls f.
func (f DialFunc) Dial(ctx context.Context, _ netip.Addr, begin func(net.Conn) error) (net.Conn, error) {
	conn, err := f(ctx)
	if err != nil {
		return nil, err
	}
	if err := begin(conn); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Facts are none: no health check goes this way.
func (DialFunc) Facts() any { return nil }

// Begin begins a session on conn, as if the server's one listener had accepted
// it. With a dial that is not nil it is the way to the backend.
func (srv *Server) Begin(conn net.Conn, dial DialFunc) {
	s := *srv.only()
	if dial != nil {
		d := *s.destinations[0]
		d.pool = dial
		s.destinations = []*destination{&d}
	}
	srv.start(conn, &s)
}

// AcceptOn accepts the clients of l for the server's one listener.
func (srv *Server) AcceptOn(l net.Listener) {
	k := &socket{listeners: []net.Listener{l}}
	k.service.Store(srv.only())
	srv.serve(k)
}

func (srv *Server) only() *service {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for _, k := range srv.sockets {
		return k.service.Load()
	}
	panic("the server has no listener")
}

// Slots is how many connections count against the limits.
func (srv *Server) Slots() int { return srv.limits.Connections() }

// HoldTurn takes a handshake's turn, as a handshake does that computes. It
// reports whether one was free.
func (srv *Server) HoldTurn() (release func(), free bool) {
	turn := srv.limits.Turn()
	free = turn.Try()
	return turn.Yield, free
}

// ReadNow reads from a socket without waiting; ErrWait is where it would.
func ReadNow(conn net.Conn) func([]byte) (int, error) { return newSocketReader(conn).read }

// ErrWait is what ReadNow returns rather than wait.
var ErrWait = errWait
