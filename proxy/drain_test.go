package proxy_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

const (
	implicit = proxy.ModeImplicitTLS
	required = proxy.ModeSTARTTLS
)

const shuttingDown = "421 4.3.2 proxy.example shutting down ("

// dialForever never comes about, until it is given up.
func dialForever(ctx context.Context) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func dialRefused(context.Context) (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}

// drainPhase is one in which a shutdown can find a session.
type drainPhase struct {
	name    string
	mode    proxy.Mode
	script  func(*peer)
	arrive  func(*bubble) *client // brings a session to the phase
	leave   func(*client)         // what the client sees then
	outcome string
}

var drains = []drainPhase{
	{"plain phase", required, never, func(b *bubble) *client {
		c := b.connect()
		c.expect("220 ")
		return c
	}, func(c *client) { c.expect(shuttingDown) }, "drained"},
	{"handshake", implicit, never, (*bubble).connect, func(c *client) {
		c.secure(implicit)
		c.expect(shuttingDown)
	}, "drained"},
	{"dial", implicit, never, func(b *bubble) *client {
		c := b.connectVia(dialForever)
		c.secure(implicit)
		return c
	}, func(c *client) { c.expect(shuttingDown) }, "drained"},
	{"greeting", implicit, never, func(b *bubble) *client {
		c := b.connect()
		c.secure(implicit)
		return c
	}, func(c *client) { c.expect(shuttingDown) }, "drained"},
	{"greeting, first command said", required, never, func(b *bubble) *client {
		c := b.connect()
		c.secure(required)
		c.send("EHLO client.example")
		return c
	}, func(c *client) { c.expect(shuttingDown) }, "drained"},
	{"first command awaited", required, never, func(b *bubble) *client {
		c := b.connectVia(dialRefused)
		c.secure(required)
		return c
	}, func(*client) {}, "backend_unavailable"},
	{"idle relay", implicit, mailServer, (*bubble).relayed,
		func(c *client) { c.expect(shuttingDown) }, "drained"},
	{"transaction", required, mailServer, func(b *bubble) *client {
		c := b.relayed()
		c.do("MAIL FROM:<a@client.example>", "250 ")
		return c
	}, func(c *client) {
		c.do("RCPT TO:<b@backend.example>", "250 ")
		c.do("DATA", "354 ")
		c.do("text\r\n.", "250 2.0.0 queued")
		c.expect(shuttingDown)
	}, "drained"},
	{"lost session", implicit, mailServer, func(b *bubble) *client {
		c := b.relayed()
		c.raw("NOOP\n") // not a line end of SMTP
		c.expect("250 ")
		return c
	}, func(c *client) { c.do("QUIT", "221 ") }, "ok"},
	{"half-closed, reply owed", implicit, func(p *peer) {
		p.send("220 ready")
		p.command()
		p.expect("VRFY")
		p.end()
		time.Sleep(time.Second)
		p.send("252 perhaps")
		time.Sleep(time.Hour)
	}, func(b *bubble) *client {
		c := b.relayed()
		c.send("VRFY")
		c.halfClose()
		return c
	}, func(c *client) {
		c.expect("252 ") // and no 421: a client that has ended its stream asks for nothing more
	}, "ok"},
}

// TestDrain begins a shutdown in each phase of a session (R82).
func TestDrain(t *testing.T) { testDrains(t, nil, drains) }

func testDrains(t *testing.T, change func(*proxy.Listener), phases []drainPhase) {
	for _, test := range phases {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, test.mode, change, test.script, func(b *bubble) {
				c := test.arrive(b)
				synctest.Wait()
				done := b.shutdown(time.Hour)
				test.leave(c)
				c.end()
				c.conn.Close()
				b.session(test.outcome)
				if err := <-done; err != nil {
					b.t.Errorf("Shutdown: %v", err)
				}
				if n := b.metric("backend_errors_total", "reason", "other"); n > 0 {
					b.t.Errorf("%v backend errors for a drain", n)
				}
			})
		})
	}
}

// TestDrainBehindReply: the reply that ends what held up the drain also wakes
// the client's direction, which waited for it. That must not cut the 421 that
// a slow client has still to take.
func TestDrainBehindReply(t *testing.T) {
	inBubble(t, proxy.ModeImplicitTLS, nil, func(p *peer) {
		p.send("220 ready")
		p.command()
		p.expect("AUTH PLAIN AGEAYg==")
		time.Sleep(time.Minute)
		p.send("235 2.7.0 ok")
		p.line()
	}, func(b *bubble) {
		b.buffer = 8 // every write to the client waits for it
		c := b.relayed()
		c.send("AUTH PLAIN AGEAYg==")
		synctest.Wait()
		done := b.shutdown(time.Hour)
		time.Sleep(time.Minute + closeSoon)
		c.expect("235 ")
		time.Sleep(closeSoon) // the 421 is being written
		c.expect(shuttingDown)
		c.end()
		c.conn.Close()
		b.session("drained")
		if err := <-done; err != nil {
			b.t.Errorf("Shutdown: %v", err)
		}
	})
}

// closeSoon is less than what a client gets to take its last reply.
const closeSoon = 3 * time.Second

var flood = strings.Repeat(strings.Repeat("x", 70)+"\r\n", 16<<10)

// kills are the phases in which the end of a drain can find a session.
var kills = []struct {
	name    string
	mode    proxy.Mode
	script  func(*peer)
	arrive  func(*bubble) *client
	outcome string
}{
	{"plain phase", required, never, (*bubble).connect, "drained"},
	{"handshake", implicit, never, (*bubble).connect, "drained"},
	{"handshake after STARTTLS", required, never, func(b *bubble) *client {
		c := b.connect()
		c.plainPhase()
		return c
	}, "drained"},
	{"dial", implicit, never, func(b *bubble) *client {
		c := b.connectVia(dialForever)
		c.secure(implicit)
		return c
	}, "drained"},
	{"header", implicit, never, func(b *bubble) *client {
		full, other := memoryPipe(25, memoryBuffer)
		_, _ = full.Write(make([]byte, memoryBuffer))
		b.t.Cleanup(func() { other.Close() })
		c := b.connectVia(func(context.Context) (net.Conn, error) { return full, nil })
		c.secure(implicit)
		return c
	}, "drained"},
	{"greeting", required, never, func(b *bubble) *client {
		c := b.connect()
		c.secure(required)
		return c
	}, "drained"},
	{"first command", required, never, func(b *bubble) *client {
		c := b.connectVia(dialRefused)
		c.secure(required)
		return c
	}, "backend_unavailable"},
	{"relay", implicit, mailServer, (*bubble).relayed, "drained"},
	{"blocked write to the client", implicit, func(p *peer) {
		p.send("220 ready")
		p.command()
		p.raw(flood)
	}, (*bubble).relayed, "drained"},
	{"blocked write to the backend", implicit, func(p *peer) {
		p.send("220 ready")
		p.command()
		p.expect("DATA")
		p.send("354 go ahead")
		time.Sleep(time.Hour)
	}, func(b *bubble) *client {
		c := b.relayed()
		c.do("DATA", "354 ")
		go func() { _, _ = c.conn.Write([]byte(flood)) }()
		return c
	}, "drained"},
	{"half-closed", implicit, func(p *peer) {
		p.send("220 ready")
		p.command()
		time.Sleep(time.Hour)
	}, func(b *bubble) *client {
		c := b.relayed()
		c.send("VRFY")
		c.halfClose()
		return c
	}, "drained"},
	{"lingering", implicit, mailServer, func(b *bubble) *client {
		c := b.relayed()
		c.do("QUIT", "221 ")
		c.end()
		return c
	}, "ok"},
}

// TestKill ends sessions in each phase at once: none may hold up Close. What
// was cut is called so.
func TestKill(t *testing.T) {
	for _, test := range kills {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, test.mode, nil, test.script, func(b *bubble) {
				test.arrive(b)
				synctest.Wait()
				b.takes(0, func() { must(b.t, b.Close()) })
				b.session(test.outcome)
				b.counts(0, "connections_open", "listener", test.mode.String())
				b.counts(0, "tls_handshake_failures_total", "reason", "eof")
			})
		})
	}
}

// TestShutdownCutsInTheEnd: what outlives the drain is cut when its context
// ends, and Shutdown says so.
func TestShutdownCutsInTheEnd(t *testing.T) {
	inBubble(t, proxy.ModeImplicitTLS, nil, mailServer, func(b *bubble) {
		c := b.relayed()
		c.do("MAIL FROM:<a@client.example>", "250 ")
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
		defer cancel()
		b.takes(time.Minute, func() {
			if err := b.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				b.t.Errorf("Shutdown: %v", err)
			}
		})
		c.gone()
		if line := b.session("drained"); line["error"] != "cut at the end of the drain" {
			b.t.Errorf("line %v", line)
		}
	})
}
