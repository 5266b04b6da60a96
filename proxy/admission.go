package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/limit"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

// Limits bound what clients may take, on all listeners together. A client is an
// IPv4 address or an IPv6 /64. 0 means the default, less than 0 no limit.
type Limits struct {
	Connections          int // open at once
	ConnectionsPerClient int // open at once
	// HandshakesPerSecondPerClient counts connections, each of which has one
	// handshake at most. After a pause a client may open twice as many at
	// once.
	HandshakesPerSecondPerClient int
	// ConcurrentHandshakes is how many handshakes are computed at once. The
	// others wait, for no longer than their deadline; one that waits for its
	// client does not count.
	ConcurrentHandshakes int
}

// Defaults of Limits.
const (
	DefaultConnections                  = 20000
	DefaultConnectionsPerClient         = 200
	DefaultHandshakesPerSecondPerClient = 50
	DefaultConcurrentHandshakes         = 256
)

// SetLimits puts other limits in force. Sessions in progress stay, and count
// against them.
func (srv *Server) SetLimits(l Limits) {
	connections := max(0, cmp.Or(l.Connections, DefaultConnections))
	srv.limits.Set(limit.Limits{
		Connections:          connections,
		ConnectionsPerClient: cmp.Or(l.ConnectionsPerClient, DefaultConnectionsPerClient),
		HandshakesPerSecond:  cmp.Or(l.HandshakesPerSecondPerClient, DefaultHandshakesPerSecondPerClient),
		ConcurrentHandshakes: cmp.Or(l.ConcurrentHandshakes, DefaultConcurrentHandshakes),
	})
	srv.metrics.ConnectionsLimit(connections)
}

// refusal is why a client gets no session. Its text is the reply's, too, unless
// there is no code.
type refusal struct {
	reason metrics.Rejection
	code   string
	text   string
}

func (r *refusal) Error() string { return r.text }

var (
	refusedFull     = &refusal{metrics.RejectedMaxConnections, "421 4.7.0", "too many connections"}
	refusedClient   = &refusal{metrics.RejectedPerClient, "421 4.7.0", "too many connections from your address"}
	refusedRate     = &refusal{metrics.RejectedHandshakeRate, "421 4.7.0", "too many connections from your address in a short time"}
	refusedDraining = &refusal{metrics.RejectedDraining, "421 4.3.2", "shutting down"}
	// Who gets past the load balancer is told nothing, not even SMTP.
	refusedUntrusted = &refusal{metrics.RejectedUntrusted, "", "proxy_protocol.trusted does not have the address"}
)

// admit takes the client's place among the sessions, or says why there is none
// for it. The rate of handshakes is looked at here and not when STARTTLS
// comes: behind the 220 to STARTTLS nothing can be said any more, and behind
// 454 to it some clients go on in plain text.
func (s *session) admit() *refusal {
	if s.srv.draining.Err() != nil {
		return refusedDraining
	}
	if s.behindBalancer() && !s.trusts(s.client.Addr()) {
		s.warnUntrusted()
		return refusedUntrusted
	}
	var err error
	if s.slot, err = s.srv.limits.Open(); err != nil {
		s.srv.warnFull()
		return refusedFull
	}
	if s.behindBalancer() {
		return nil // who the client is tells the PROXY header
	}
	return s.admitClient()
}

// admitClient holds the client to what is its own share.
func (s *session) admitClient() *refusal {
	err := s.slot.Admit(s.client.Addr())
	switch {
	case err == nil:
		return nil
	case errors.Is(err, limit.ErrHandshakeRate):
		return refusedRate
	}
	return refusedClient
}

// refuseTimeout bounds the write of the reply to a client that is refused. The
// socket is new and its buffer empty, so the write does not wait.
const refuseTimeout = time.Second

// refuse ends a session that has not begun. It is done by who accepts, without
// a goroutine or a wait, so that a flood costs as little as it can. On STARTTLS
// listeners the client hears why; under TLS that would take a handshake.
func (s *session) refuse(r *refusal) {
	s.slot.Release()
	s.turnAway(r)
	s.report(&ending{metrics.SessionRefused, r})
	s.metrics.ConnectionClosed()
}

// turnAway tells the client why, and closes its connection.
func (s *session) turnAway(r *refusal) {
	s.metrics.ConnectionRejected(r.reason)
	if s.Mode == ModeSTARTTLS && r.code != "" {
		_ = s.conn.SetWriteDeadline(time.Now().Add(refuseTimeout))
		if _, err := fmt.Fprintf(s.conn, "%s %s %s (%s)\r\n", r.code, s.Hostname, r.text, s.id); err == nil {
			discardUnread(s.conn.Conn)
		}
	}
	s.conn.Close() // the kernel sees to it that the reply arrives
}

// discardUnread takes what a client has sent before it was greeted out of the
// socket: to close it with unread bytes would make the kernel send a reset,
// which can take our reply away from the client. It does not wait for more.
func discardUnread(conn net.Conn) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	var discarded [4096]byte
	_ = raw.Read(func(fd uintptr) bool {
		_, _ = syscall.Read(int(fd), discarded[:]) // the socket does not block
		return true
	})
}

// The least time between two lines of the log that say the same of a flood: it
// must not flood the log. Peers that nobody trusts may come for ever.
const (
	tellEvery      = 10 * time.Second
	untrustedEvery = time.Minute
)

// seldom is what was said of something that may happen often, and what was not.
type seldom struct {
	mu    sync.Mutex
	last  time.Time
	count int // since then
}

// happened counts. It returns how often it happened since the last line when it
// is time for the next, else 0.
func (s *seldom) happened(every time.Duration) (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	now := time.Now()
	if now.Sub(s.last) < every {
		return 0
	}
	count, s.count, s.last = s.count, 0, now
	return count
}

// warnFull counts a client for which there was no place, and warns from time
// to time.
func (srv *Server) warnFull() {
	if refused := srv.full.happened(tellEvery); refused > 0 {
		srv.log.Warn("limits.connections is reached; clients are refused", "open", srv.limits.Connections(), "refused", refused)
	}
}
