package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

var (
	// errIdle ends a relay in which no byte passed for Timeouts.RelayIdle.
	errIdle = errors.New("no byte in either direction for too long")
	// errReplyOwed: the backend left without an answer to the client.
	errReplyOwed = errors.New("backend closed the connection while it owed a reply")
)

// relay is a session under TLS with its backend.
type relay struct {
	*session
	client  *leg
	backend *leg
	filter  *starttls.Filter
	closing *time.Timer // runs once the client ended its stream

	mu      sync.Mutex
	settled bool    // end holds why the relay ended: the first reason counts
	end     *ending // nil for an orderly end
	over    bool    // the connections are no longer the relay's
}

// relay gives the client the backend's greeting, if that is still due, and
// passes SMTP both ways until one side ends it.
func (s *session) relay(conn net.Conn, greeting []byte) *ending {
	r := &relay{session: s}
	idle := watchIdle(s.Timeouts.RelayIdle, func() { r.stop(&ending{metrics.SessionIdleTimeout, errIdle}) })
	r.client = &leg{Conn: s.tls, idle: idle, sent: &s.toClient, count: s.metrics.BytesToClient}
	r.backend = &leg{Conn: conn, idle: idle, sent: &s.toBackend, count: s.metrics.BytesToBackend}
	r.filter = starttls.NewFilter(r.client, r.backend, starttls.FilterConfig{
		Hostname: s.Hostname, ID: s.id, Message: r.message,
	})
	cut := context.AfterFunc(s.srv.killed, func() { r.stop(&ending{metrics.SessionDrained, errCut}) })
	drain := context.AfterFunc(s.srv.draining, r.drain)

	if _, err := r.client.Write(greeting); err != nil {
		r.stop(r.ending(err))
	}
	var commands sync.WaitGroup
	commands.Go(r.copyCommands)
	r.copyReplies()
	commands.Wait()

	drain()
	cut()
	idle.stop()
	if r.closing != nil {
		r.closing.Stop()
	}
	return r.finish()
}

// message counts a message that the backend took.
func (r *relay) message() {
	r.messages.Add(1)
	r.metrics.MessageTLS()
}

// copyCommands carries the client's direction to its end, and then lets the
// backend finish what it owes.
func (r *relay) copyCommands() {
	err := r.filter.CopyCommands()
	switch {
	case err == nil:
		r.halfClose()
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
	default:
		r.stop(nil)
	}
}

// halfClose passes on the end of the client's stream. The backend then has a
// bound to end its own, which counts from when it owes no reply.
func (r *relay) halfClose() {
	if err := closeWrite(r.backend.Conn); err != nil {
		r.stop(&ending{metrics.SessionBackendError, fmt.Errorf("closing the backend's direction: %w", err)})
		return
	}
	r.closing = time.AfterFunc(r.Timeouts.HalfClose, r.halfClosed)
}

func (r *relay) halfClosed() {
	if r.filter.Owed() {
		r.closing.Reset(r.Timeouts.HalfClose)
		return
	}
	r.stop(nil)
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
	case errors.Is(err, starttls.ErrRefused):
		return &ending{metrics.SessionRefused, err}
	case errors.Is(err, starttls.ErrEHLOTooLong):
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
	if !r.settled {
		r.settled, r.end = true, end
	}
}

// stop ends both directions. Deadlines do it, not Close: the client may have a
// last reply to read.
func (r *relay) stop(end *ending) {
	r.settle(end)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		_ = r.client.SetDeadline(past) // fails where the connection is gone
		_ = r.backend.SetDeadline(past)
	}
}

// finish gives the connections back.
func (r *relay) finish() *ending {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	return r.end
}

// past is a deadline that interrupts what waits.
var past = time.Unix(1, 0)

// leg is one of the two connections of a relay. It counts, and tells the idle
// watch of every byte.
type leg struct {
	net.Conn
	idle   *idleWatch
	sent   *atomic.Uint64
	count  func(bytes int)
	broken atomic.Bool // it failed, other than by the end of its stream
}

func (l *leg) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.used(err)
	return n, err
}

func (l *leg) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	l.used(err)
	l.sent.Add(uint64(n))
	l.count(n)
	return n, err
}

func (l *leg) used(err error) {
	l.idle.touch()
	if err != nil && !errors.Is(err, io.EOF) {
		l.broken.Store(true)
	}
}

// idleWatch calls a function once when nothing was used for a while. A use
// costs a reading of the clock and moves no timer.
type idleWatch struct {
	limit   time.Duration
	expired func()
	began   time.Time
	last    atomic.Int64 // when it was last used, since began
	timer   *time.Timer
	mu      sync.Mutex // guards timer
}

func watchIdle(limit time.Duration, expired func()) *idleWatch {
	w := &idleWatch{limit: limit, expired: expired, began: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(limit, w.look)
	return w
}

func (w *idleWatch) touch() { w.last.Store(int64(time.Since(w.began))) }

// look runs when the limit may have passed.
func (w *idleWatch) look() {
	rest := w.limit - (time.Since(w.began) - time.Duration(w.last.Load()))
	if rest <= 0 {
		w.expired()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Reset(rest)
	}
}

func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.timer = nil
}
