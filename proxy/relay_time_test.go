package proxy_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// TestR75_SlowAnswerToFinalDot: a backend that takes nine minutes for a message is
// not cut, for the client would send it again.
func TestR75_SlowAnswerToFinalDot(t *testing.T) {
	const slow = 9 * time.Minute
	inBubble(t, proxy.ModeImplicitTLS, nil, func(p *peer) {
		p.send("220 ready")
		p.command()
		p.expect("DATA")
		p.send("354 go ahead")
		p.expect("text\r\n")
		p.expect(".\r\n")
		time.Sleep(slow)
		p.send("250 queued")
		p.command()
	}, func(b *bubble) {
		c := b.relayed()
		c.do("DATA", "354 ")
		b.takes(slow, func() { c.do("text\r\n.", "250 queued") })
		c.do("QUIT", "221 ")
		c.end()
		b.session("ok")
	})
}

// TestIdle: a session in which neither side says anything ends, and each byte
// begins the time anew.
func TestIdle(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		inBubble(t, mode, nil, mailServer, func(b *bubble) {
			c := b.relayed()
			time.Sleep(proxy.DefaultRelayIdle - time.Second)
			c.do("NOOP", "250 ")
			b.takes(proxy.DefaultRelayIdle, c.end)
			if line := b.session("idle_timeout"); line["level"] != "INFO" {
				b.t.Errorf("line %v", line)
			}
			b.counts(1, "sessions_total", "outcome", "idle_timeout", "backend", "mta")
		})
	})
}

// TestIdleWithBlockedWrites: neither side reads, so that each of the two
// copies hangs in a write. The watch ends that too.
func TestIdleWithBlockedWrites(t *testing.T) {
	flood := strings.Repeat("250-"+strings.Repeat("x", 60)+"\r\n", 64<<10)
	inBubble(t, proxy.ModeImplicitTLS, nil, func(p *peer) {
		p.send("220 ready")
		p.command()
		p.raw(flood)
	}, func(b *bubble) {
		c := b.relayed()
		go func() { _, _ = c.conn.Write([]byte(flood)) }() // until the connection is closed
		b.session("idle_timeout")
	})
}

// TestHalfCloseWithReplyOwed: a client that ends its stream behind its last
// command still gets the reply, however late (R62).
func TestHalfCloseWithReplyOwed(t *testing.T) {
	const slow = 10 * proxy.DefaultHalfClose
	inBubble(t, proxy.ModeImplicitTLS, nil, func(p *peer) {
		p.send("220 ready")
		p.command()
		p.expect("RCPT TO:<b@backend.example>")
		p.end() // R62: the backend sees the end of the client's stream
		time.Sleep(slow)
		p.send("250 ok")
	}, func(b *bubble) {
		c := b.relayed()
		c.send("RCPT TO:<b@backend.example>")
		c.halfClose()
		b.takes(slow, func() { c.expect("250 ok") })
		c.end()
		b.session("ok")
	})
}

// TestHalfCloseIsBounded: a backend that owes nothing does not hold a client
// that has left.
func TestHalfCloseIsBounded(t *testing.T) {
	inBubble(t, proxy.ModeImplicitTLS, nil, func(p *peer) {
		p.send("220 ready")
		p.command()
		p.end()
		time.Sleep(time.Hour)
	}, func(b *bubble) {
		c := b.relayed()
		c.halfClose()
		b.takes(proxy.DefaultHalfClose, c.end)
		b.session("ok")
	})
}

// TestHalfCloseEndsWithItsSession: a timer with the shortest bound fires as
// soon as it is made, again and again, and goes with its session even where
// the reply never comes.
func TestHalfCloseEndsWithItsSession(t *testing.T) {
	for _, bound := range []time.Duration{time.Nanosecond, time.Second} {
		inBubble(t, proxy.ModeImplicitTLS, func(l *proxy.Listener) { l.Timeouts.HalfClose = bound }, func(p *peer) {
			p.send("220 ready")
			p.command()
			p.expect("NOOP")
			p.end()
			time.Sleep(5 * bound / 2)
		}, func(b *bubble) {
			c := b.relayed()
			c.send("NOOP")
			c.halfClose()
			c.end()
			b.session("backend_error")
		})
	}
}

// TestShortestIdle: a watch that runs out at once finds the relay ready.
func TestShortestIdle(t *testing.T) {
	inBubble(t, proxy.ModeImplicitTLS, func(l *proxy.Listener) { l.Timeouts.RelayIdle = 1 }, mailServer, func(b *bubble) {
		c := b.connect()
		c.secure(b.mode)
		c.reply() // the greeting, or the end
		b.session("idle_timeout")
	})
}

// TestSlowReaderBoundsMemory: what the backend can send to a client that does
// not read is what the buffers hold (R64), and the other way round.
func TestSlowReaderBoundsMemory(t *testing.T) {
	const much = 8 << 20
	const bound = 2*memoryBuffer + 2*64<<10 // two kernels' worth, and ours
	chunk := strings.Repeat("x", 4<<10-2) + "\r\n"

	t.Run("client", func(t *testing.T) {
		var taken int
		inBubble(t, proxy.ModeImplicitTLS, nil, func(p *peer) {
			p.send("220 ready")
			p.command()
			for ; taken < much; taken += len(chunk) {
				p.raw(chunk)
			}
		}, func(b *bubble) {
			b.relayed()
			synctest.Wait()
			if taken > bound {
				b.t.Errorf("the proxy took %d bytes for a client that does not read", taken)
			}
		})
	})
	t.Run("backend", func(t *testing.T) {
		inBubble(t, proxy.ModeImplicitTLS, nil, func(p *peer) {
			p.send("220 ready")
			p.command()
			p.expect("DATA")
			p.send("354 go ahead")
			time.Sleep(time.Hour)
		}, func(b *bubble) {
			c := b.relayed()
			c.do("DATA", "354 ")
			taken := 0
			go func() {
				for ; taken < much; taken += len(chunk) {
					if _, err := c.conn.Write([]byte(chunk)); err != nil {
						return
					}
				}
			}()
			synctest.Wait()
			if taken > bound {
				b.t.Errorf("the proxy took %d bytes for a backend that does not read", taken)
			}
		})
	})
}
