package proxy

import (
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

// upgrade is how a relay in plain text ends when the client got the 220 to its
// STARTTLS: the session goes on with the handshake.
var upgrade = &ending{}

// plainRelay carries a client that goes on without TLS to the end of its
// session, or to its STARTTLS. Nothing that was said survives that (RFC 3207
// section 4.2): the backend's connection is closed, even within a transaction.
func (s *session) plainRelay() *ending {
	s.metrics.STARTTLS(metrics.STARTTLSPlaintext)
	conn, _, end := s.connect() // the client had our greeting
	if end != nil {
		return end
	}
	defer conn.Close()
	if end := s.relay(conn, nil); end != upgrade {
		return end
	}
	s.plaintext = nil
	_ = s.conn.SetDeadline(time.Time{}) // the relay's are in the past; a connection that is gone shows in the handshake
	return upgrade
}

// upgrade ends the relay for the client's handshake. What became of the
// backend's direction has no meaning any more.
func (r *relay) upgrade() {
	r.stop(upgrade)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = upgrade
}
