package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

var (
	// errIdle ends a relay in which no byte passed for Timeouts.RelayIdle.
	errIdle = errors.New("no byte in either direction for too long")
	// errReplyOwed: the backend left without an answer to the client.
	errReplyOwed = errors.New("backend closed the connection while it owed a reply")
	// errWithinMessage: the backend left before the client's message was whole.
	errWithinMessage = errors.New("backend closed the connection within a message")
	// errWithinTransaction: the backend left, without a word, before the message began.
	errWithinTransaction = errors.New("backend closed the connection within a transaction")
)

// relay is a session, under TLS or in plain text, with its backend.
type relay struct {
	*session
	client  *leg
	backend *leg
	filter  *starttls.Filter

	mu      sync.Mutex
	settled bool        // end holds why the relay ended: the first reason counts
	end     *ending     // nil for an orderly end
	stopped bool        // the deadlines are set, or are no longer the relay's to set
	closing *time.Timer // runs once the client ended its stream; nil before
}

// relay gives the client the backend's greeting, if that is still due, and
// passes SMTP both ways until one side ends it.
func (s *session) relay(conn net.Conn, greeting []byte) *ending {
	r := &relay{session: s}
	idle := newIdleWatch(s.Timeouts.RelayIdle, func() { r.stop(&ending{metrics.SessionIdleTimeout, errIdle}) })
	r.client = &leg{Conn: s.stream(), idle: idle, sent: &s.toClient, count: s.metrics.BytesToClient}
	if s.tls != nil {
		r.client.now = s.conn
	}
	r.backend = &leg{Conn: conn, idle: idle, sent: &s.toBackend, count: s.metrics.BytesToBackend}
	r.filter = starttls.NewFilter(r.client, r.backend, starttls.FilterConfig{
		Hostname: s.Hostname, ID: s.id, Message: r.message, Plaintext: s.plaintext, Trace: s.trace(),
	})
	idle.start()
	defer idle.stop()
	cut := context.AfterFunc(s.srv.killed, func() { r.stop(&ending{metrics.SessionDrained, errCut}) })
	defer cut()

	if _, err := r.client.Write(greeting); err != nil {
		r.stop(r.ending(err))
	}
	// Behind the greeting, for its 421 to come behind it too.
	said := make(chan struct{})
	drain := context.AfterFunc(s.srv.draining, func() {
		defer close(said)
		r.guard(r.drain)
	})
	var commands sync.WaitGroup
	commands.Go(func() { r.guard(r.copyCommands) })
	r.guard(r.copyReplies)
	commands.Wait()
	if !drain() {
		<-said // the 421 may be on its way
	}
	return r.finish()
}

// guard lets a panic end this session alone, whatever goroutine it is in, and
// stops the other direction.
func (r *relay) guard(direction func()) {
	defer func() {
		if v := recover(); v != nil {
			r.stop(r.panicked(v))
		}
	}()
	direction()
}

// message counts a message that the backend took.
func (r *relay) message() {
	r.messages.Add(1)
	if r.plaintext != nil {
		r.metrics.MessageInClear()
		return
	}
	r.metrics.MessageTLS()
}

// copyCommands carries the client's direction to its end, and then lets the
// backend finish what it owes.
func (r *relay) copyCommands() {
	err := r.filter.CopyCommands()
	switch {
	case err == nil:
		r.halfClose()
	case errors.Is(err, starttls.ErrSTARTTLS):
		r.upgrade()
	case errors.Is(err, starttls.ErrInjection):
		r.metrics.STARTTLS(metrics.STARTTLSInjection)
		r.stop(r.ending(err))
	case errors.Is(err, starttls.ErrTruncated):
		// The backend sees its stream end where the client's did, and nothing
		// else: it must not take half a message for a whole one.
		r.settle(&ending{metrics.SessionClientError, err})
		r.halfClose()
	case r.backend.broken.Load():
		// What the backend said before it hung up is still to be relayed.
		r.settle(&ending{metrics.SessionBackendError, fmt.Errorf("writing to the backend: %w", err)})
	default:
		r.stop(r.ending(err))
	}
}

// copyReplies carries the backend's direction to its end. Then the session is
// over: a client's commands have nowhere to go.
func (r *relay) copyReplies() {
	err := r.filter.CopyReplies()
	switch {
	case err != nil:
		r.stop(r.ending(err))
	case r.filter.Owed():
		r.stop(&ending{metrics.SessionBackendError, errReplyOwed})
	case r.filter.WithinMessage() && r.clientEnded():
		r.stop(&ending{metrics.SessionClientError, starttls.ErrTruncated})
	case r.filter.WithinMessage():
		r.stop(&ending{metrics.SessionBackendError, errWithinMessage})
	case r.filter.WithinTransaction() && !r.clientEnded():
		r.stop(&ending{metrics.SessionBackendError, errWithinTransaction})
	default:
		r.stop(nil)
	}
}

// halfClose passes on the end of the client's stream. The backend then has a
// bound to end its own, which counts from when it owes no reply.
func (r *relay) halfClose() {
	r.mu.Lock()
	r.closing = time.AfterFunc(r.Timeouts.HalfClose, r.halfClosed)
	r.mu.Unlock()
	_ = closeWrite(r.backend.Conn) // a connection that is gone shows in copyReplies, behind what it still holds
}

// clientEnded tells whether the client ended its stream. A backend that then
// leaves within a message, as between two BDAT chunks, only follows it.
func (r *relay) clientEnded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closing != nil
}

func (r *relay) halfClosed() {
	if !r.filter.Owed() {
		r.stop(nil)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.closing.Reset(r.Timeouts.HalfClose)
	}
}

// drain ends the session at once if no transaction is open; else the filter
// does when it comes to that.
func (r *relay) drain() {
	if r.filter.Drain() {
		r.stop(&ending{metrics.SessionDrained, nil})
	}
}

// ending tells what an error of one of the copies means.
func (r *relay) ending(err error) *ending {
	switch {
	case errors.Is(err, starttls.ErrDrained):
		return &ending{metrics.SessionDrained, nil}
	case r.srv.killed.Err() != nil:
		return &ending{metrics.SessionDrained, errCut}
	case errors.Is(err, starttls.ErrRefused), errors.Is(err, starttls.ErrInjection):
		return &ending{metrics.SessionRefused, err}
	case errors.Is(err, starttls.ErrEHLOTooLong), errors.Is(err, starttls.ErrHello):
		return &ending{metrics.SessionBackendError, err}
	case r.backend.broken.Load():
		return &ending{metrics.SessionBackendError, fmt.Errorf("backend: %w", err)}
	}
	return &ending{metrics.SessionClientError, fmt.Errorf("client: %w", err)}
}

// settle keeps the first reason.
func (r *relay) settle(end *ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settleLocked(end)
}

// settleLocked needs mu.
func (r *relay) settleLocked(end *ending) {
	if !r.settled {
		r.settled, r.end = true, end
	}
}

// stop ends both directions. Deadlines do it, not Close: the client may have a
// last reply to read. One that is being written gets some time, because a
// write to crypto/tls that times out is the last.
func (r *relay) stop(end *ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settleLocked(end)
	if r.stopped {
		return
	}
	r.stopped = true
	_ = r.client.SetReadDeadline(past) // each fails where the connection is gone
	_ = r.client.SetWriteDeadline(time.Now().Add(closeTimeout))
	_ = r.backend.SetDeadline(past)
}

// finish gives the connections back.
func (r *relay) finish() *ending {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	if r.closing != nil {
		r.closing.Stop()
	}
	return r.end
}

// past is a deadline that interrupts what waits.
var past = time.Unix(1, 0)
