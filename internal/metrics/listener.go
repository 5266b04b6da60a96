package metrics

import (
	"crypto/tls"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// Listener counts what happens on one listener; [Proxy.Listener] makes it.
type Listener struct {
	proxy *Proxy
	name  string

	connections     prometheus.Counter
	open            prometheus.Gauge
	rejected        set[Rejection]
	acceptErrors    prometheus.Counter
	failed          prometheus.Counter
	failures        set[HandshakeFailure]
	alerts          set[string]
	handshakeTime   prometheus.Observer
	starttls        set[STARTTLSOutcome]
	sessionTime     prometheus.Observer
	messagesTLS     prometheus.Counter
	messagesInClear prometheus.Counter
	toBackend       prometheus.Counter
	toClient        prometheus.Counter

	mu         sync.RWMutex // guards what follows
	removed    bool
	handshakes map[negotiated]prometheus.Counter
	sessions   map[*Backend]set[SessionOutcome]
}

func newListener(p *Proxy, name string) *Listener {
	l := &Listener{
		proxy:           p,
		name:            name,
		connections:     p.connections.WithLabelValues(name),
		open:            p.open.WithLabelValues(name),
		rejected:        newSet(p.rejected, rejections, name),
		acceptErrors:    p.acceptErrors.WithLabelValues(name),
		failed:          p.handshakes.WithLabelValues(name, "failed", none, none, none, "false"),
		failures:        newSet(p.handshakeFailures, handshakeFailures, name),
		alerts:          newSet(p.clientAlerts, alertLabels, name),
		handshakeTime:   p.handshakeDuration.WithLabelValues(name),
		starttls:        newSet(p.starttls, starttlsOutcomes, name),
		sessionTime:     p.sessionDuration.WithLabelValues(name),
		messagesTLS:     p.messages.WithLabelValues(name, "true"),
		messagesInClear: p.messages.WithLabelValues(name, "false"),
		toBackend:       p.bytes.WithLabelValues(name, "to_backend"),
		toClient:        p.bytes.WithLabelValues(name, "to_client"),
		handshakes:      make(map[negotiated]prometheus.Counter),
		sessions:        make(map[*Backend]set[SessionOutcome]),
	}
	l.sessionsOf(nil)
	return l
}

// ConnectionOpened counts a connection that was accepted.
func (l *Listener) ConnectionOpened() {
	l.connections.Inc()
	l.open.Inc()
}

// ConnectionClosed takes a connection out of those that are open.
func (l *Listener) ConnectionClosed() { l.open.Dec() }

// ConnectionRejected counts a connection that was closed as soon as it was
// accepted, or for its PROXY header.
func (l *Listener) ConnectionRejected(reason Rejection) { l.rejected.inc(reason) }

// AcceptError counts a failed accept.
func (l *Listener) AcceptError() { l.acceptErrors.Inc() }

// HandshakeDone counts a handshake that succeeded, and the time it took.
func (l *Listener) HandshakeDone(state tls.ConnectionState, took time.Duration) {
	l.handshakeTime.Observe(took.Seconds())
	if c := l.handshakesOf(negotiatedIn(&state)); c != nil {
		c.Inc()
	}
}

// HandshakeFailed counts a handshake that failed.
func (l *Listener) HandshakeFailed(reason HandshakeFailure) {
	l.failed.Inc()
	l.failures.inc(reason)
}

// ClientAlert counts an alert with which a client ended its handshake.
func (l *Listener) ClientAlert(alert tlsopts.Alert) {
	label := alert.String()
	if _, named := l.alerts[label]; !named {
		label = other
	}
	l.alerts.inc(label)
}

// STARTTLS counts the end of a plain phase.
func (l *Listener) STARTTLS(outcome STARTTLSOutcome) { l.starttls.inc(outcome) }

// MessageTLS counts a message that came over TLS and that the backend took.
func (l *Listener) MessageTLS() { l.messagesTLS.Inc() }

// MessageInClear counts a message that came in plain text and that the backend
// took.
func (l *Listener) MessageInClear() { l.messagesInClear.Inc() }

// BytesToBackend counts n bytes of a client that were given to a backend.
func (l *Listener) BytesToBackend(n int) { l.toBackend.Add(float64(n)) }

// BytesToClient counts n bytes of a backend that were given to a client.
func (l *Listener) BytesToClient(n int) { l.toClient.Add(float64(n)) }

// SessionDone counts a session's end and its length. The backend is nil for a
// session that ended before one was chosen.
func (l *Listener) SessionDone(b *Backend, outcome SessionOutcome, took time.Duration) {
	l.sessionTime.Observe(took.Seconds())
	l.sessionsOf(b).inc(outcome)
}

// handshakesOf returns the counter of n, made the first time that it is asked
// for, and nil after the listener was removed: the series must not come back.
func (l *Listener) handshakesOf(n negotiated) prometheus.Counter {
	l.mu.RLock()
	c := l.handshakes[n]
	l.mu.RUnlock()
	if c != nil {
		return c
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.removed {
		return nil
	}
	c = l.proxy.handshakes.WithLabelValues(l.name, "ok", n.version, n.cipher, n.group, n.resumed)
	l.handshakes[n] = c
	return c
}

// sessionsOf returns the counters of the sessions with b, made and started at
// 0 the first time that they are asked for, and none after the listener or the
// backend was removed.
func (l *Listener) sessionsOf(b *Backend) set[SessionOutcome] {
	l.mu.RLock()
	s := l.sessions[b]
	l.mu.RUnlock()
	if s != nil {
		return s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.removed || b.isRemoved() {
		return nil
	}
	s = newSet(l.proxy.sessions, sessionOutcomes, l.name, b.label())
	l.sessions[b] = s
	return s
}

// remove ends the making of series. The caller deletes those there are.
func (l *Listener) remove() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removed = true
}

// forget drops the counters of a removed backend.
func (l *Listener) forget(b *Backend) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, b)
}
