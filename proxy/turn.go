package proxy

import (
	"context"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/limit"
)

// turn is the handshake's leave to compute; see limit.Turn. Handshakes wait
// for theirs, so that a flood of them does not take the processors from the
// sessions that are relayed.
type turn struct {
	limit.Turn
	ctx context.Context // of the handshake; nil outside of it
	// tail is what the client sent last; see clearAlert.
	tail [7]byte
}

// beginTurns bounds what a handshake computes, until endTurns.
func (c *clientConn) beginTurns(ctx context.Context) {
	c.turn = turn{Turn: c.session.srv.limits.Turn(), ctx: ctx}
}

// endTurns is for every end of a handshake, a panic too.
func (c *clientConn) endTurns() {
	c.turn.Yield()
	c.turn = turn{}
}

// Read gives the turn of a handshake back while it waits for the client, and
// takes it again to compute with what came: a client that is slow or silent
// holds none. Writes are not worth the change. A server's flight fits the
// socket's buffer, whatever the client does.
func (c *clientConn) Read(p []byte) (int, error) {
	switch {
	case c.waitless:
		return c.readNow(p)
	case c.turn.ctx == nil:
		return c.Conn.Read(p)
	}
	c.turn.Yield()
	n, err := c.Conn.Read(p)
	if tail := n - len(c.turn.tail); tail >= 0 {
		copy(c.turn.tail[:], p[tail:n])
	}
	if err != nil {
		return n, err
	}
	return n, c.takeTurn()
}

// takeTurn waits within the handshake's deadline.
func (c *clientConn) takeTurn() error {
	if c.turn.Try() {
		return nil
	}
	m := c.session.srv.metrics
	m.HandshakeWaits()
	defer m.HandshakeGoesOn()
	return c.turn.Take(c.turn.ctx)
}
