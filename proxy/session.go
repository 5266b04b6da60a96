package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/limit"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// session is one client, from accept to close. It keeps the service with which
// it began, whatever is reloaded meanwhile.
type session struct {
	*service
	srv    *Server
	id     string // in logs, replies of ours and the UNIQUE_ID TLV
	began  time.Time
	conn   *clientConn
	slot   limit.Slot
	client netip.AddrPort
	local  netip.AddrPort // where the client connected to

	balancer netip.AddrPort // whose PROXY header told of the client; none where clients connect to us
	own      bool           // the load balancer speaks for itself

	to        *destination        // the listener's own backend, and from the handshake on the one of the server name
	plaintext *starttls.Plaintext // not nil while the client goes on without TLS
	tls       *tls.Conn           // nil before the handshake succeeded
	state     tls.ConnectionState
	forwarded bool          // it was for the backend to take the client
	hello     hello         // what the client asked for in its ClientHello
	toBackend atomic.Uint64 // bytes
	toClient  atomic.Uint64 // bytes
	messages  atomic.Uint64 // that the backend took
}

// clientConn is the connection from a client. crypto/tls hands it to the
// callbacks of its configuration, which find the session by it.
type clientConn struct {
	net.Conn
	session *session
	turn    turn

	// waitless makes Read return errWait rather than wait. Only who reads under
	// TLS sets it.
	waitless bool
	now      *socketReader // for that; nil until then
}

// CloseWrite ends our direction of the connection.
func (c *clientConn) CloseWrite() error { return closeWrite(c.Conn) }

// start begins the session of a client that was accepted, or refuses it.
func (srv *Server) start(conn net.Conn, service *service) {
	service.metrics.ConnectionOpened()
	s := &session{
		service: service,
		to:      service.destinations[0],
		srv:     srv,
		id:      newID(),
		began:   time.Now(),
		client:  backend.AddrPort(conn.RemoteAddr()),
		local:   backend.AddrPort(conn.LocalAddr()),
	}
	s.conn = &clientConn{Conn: conn, session: s}
	if r := s.admit(); r != nil {
		s.refuse(r)
		return
	}
	srv.running.Add(1)
	go s.serve()
}

// newID makes a session's id: 64 random bits, short enough to be read out on
// the telephone and to leave room in the PROXY header.
func newID() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}

// serve owns the client's connection, its slot, the log line and the metrics.
func (s *session) serve() {
	defer s.srv.running.Done()
	defer s.slot.Release()
	cut := context.AfterFunc(s.srv.killed, func() { s.conn.Close() })
	end := s.runSafely()
	s.report(end)
	s.close()
	cut()
	s.metrics.ConnectionClosed()
}

// runSafely lets a panic end this session alone.
func (s *session) runSafely() (end *ending) {
	defer func() {
		if v := recover(); v != nil {
			end = s.panicked(v)
		}
	}()
	return s.run()
}

// panicked reports a panic. It is called while that unwinds.
func (s *session) panicked(v any) *ending {
	s.srv.metrics.Panic()
	s.srv.log.Error("panic in a session: this is a bug, please report it", "id", s.id, "panic", v, "stack", string(debug.Stack()))
	return &ending{metrics.SessionPanic, fmt.Errorf("panic: %v", v)}
}

// run carries the client from the greeting to the end of the relay. It returns
// how the session ended.
func (s *session) run() *ending {
	if s.behindBalancer() {
		if end := s.introduce(); end != nil {
			return end
		}
	}
	if s.Mode == ModeSTARTTLS {
		if end := s.plainPhase(); end != nil {
			return end
		}
	}
	if s.plaintext != nil { // TLS is optional, and the client did without
		if end := s.plainRelay(); end != upgrade {
			return end
		}
	}
	if end := s.handshake(); end != nil {
		return end
	}
	conn, greeting, end := s.connect() // never before the handshake
	if end != nil {
		return end
	}
	defer conn.Close()
	if s.Mode == ModeSTARTTLS {
		greeting = nil // the client had one before TLS
	}
	return s.relay(conn, greeting)
}

// stream is the client's connection in the form in which it speaks SMTP.
func (s *session) stream() net.Conn {
	if s.tls != nil {
		return s.tls
	}
	return s.conn
}

// plainPhase talks SMTP until the client has the 220 to its STARTTLS, or goes
// on without TLS where it may.
func (s *session) plainPhase() *ending {
	var err error
	s.plaintext, err = s.plain.Negotiate(s.srv.draining, s.conn, s.id)
	if err == nil {
		return nil
	}
	outcome := metrics.SessionPreTLS
	reason := metrics.STARTTLSDisconnected
	switch {
	case errors.Is(err, starttls.ErrQuit):
		reason = metrics.STARTTLSQuit
	case errors.Is(err, starttls.ErrInjection):
		reason, outcome = metrics.STARTTLSInjection, metrics.SessionRefused
	case errors.Is(err, starttls.ErrEarlyTalker):
		reason, outcome = metrics.STARTTLSEarlyTalker, metrics.SessionRefused
	case errors.Is(err, starttls.ErrTLSRecord):
		reason = metrics.STARTTLSDirectTLS
	case errors.Is(err, starttls.ErrHTTP):
		reason, outcome = metrics.STARTTLSHTTP, metrics.SessionRefused
	case errors.Is(err, starttls.ErrTooManyErrors):
		reason, outcome = metrics.STARTTLSTooManyErrors, metrics.SessionRefused
	case errors.Is(err, starttls.ErrTooMuch):
		reason, outcome = metrics.STARTTLSTooManyCommands, metrics.SessionRefused
	case errors.Is(err, starttls.ErrShutdown), s.srv.killed.Err() != nil:
		reason, outcome = metrics.STARTTLSDrained, metrics.SessionDrained
	case isTimeout(err):
		reason = metrics.STARTTLSTimeout
	}
	s.metrics.STARTTLS(reason)
	return &ending{outcome, fmt.Errorf("before TLS: %w", err)}
}
