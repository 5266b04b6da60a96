package proxy_test

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// oneTurn bounds handshakes to one at a time.
var oneTurn = limits(func(l *proxy.Limits) { l.ConcurrentHandshakes = 1 })

// TestR77_HandshakesWaitAndRelaysDoNot: while all turns are taken, a handshake
// waits, and is done as soon as there is one; what is relayed goes on.
func TestR77_HandshakesWaitAndRelaysDoNot(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		inBubble(t, mode, nil, mailServer, func(b *bubble) {
			b.SetLimits(oneTurn)
			relayed := b.relayed()
			release, free := b.HoldTurn()
			if !free {
				b.t.Fatal("a relayed session holds a turn")
			}
			const waiting = 5
			done := make(chan error, waiting)
			for range waiting {
				c := b.connect()
				if mode == proxy.ModeSTARTTLS {
					c.plainPhase()
				}
				go func() { done <- c.tryHandshake(trusting("a.example")) }()
			}
			synctest.Wait()
			b.counts(waiting, "handshakes_waiting")
			relayed.do("NOOP", "250 ")
			if len(done) > 0 {
				b.t.Errorf("%d handshakes were done without a turn", len(done))
			}
			release()
			for range waiting {
				must(b.t, <-done)
			}
			synctest.Wait() // with TLS 1.3 the client is done before the server
			b.counts(0, "handshakes_waiting")
			relayed.do("NOOP", "250 ")
		})
	})
}

// TestR77_WaitingCountsIntoTheDeadline of the handshake (R73).
func TestR77_WaitingCountsIntoTheDeadline(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		inBubble(t, mode, nil, mailServer, func(b *bubble) {
			b.SetLimits(oneTurn)
			release, _ := b.HoldTurn()
			defer release()
			c := b.connect()
			if mode == proxy.ModeSTARTTLS {
				c.plainPhase()
			}
			b.takes(proxy.DefaultHandshakeTimeout, func() {
				if err := c.tryHandshake(trusting("a.example")); err == nil {
					b.t.Error("the handshake was done without a turn")
				}
			})
			b.session("handshake_failed")
			b.counts(1, "tls_handshake_failures_total", "reason", "timeout")
			b.counts(0, "handshakes_waiting")
		})
	})
}

// TestR77_ClientsThatWaitHoldNoTurn: neither silence, nor a ClientHello in
// drops, nor one that is not followed up, keeps another client out.
func TestR77_ClientsThatWaitHoldNoTurn(t *testing.T) {
	inBubble(t, proxy.ModeImplicitTLS, nil, mailServer, func(b *bubble) {
		b.SetLimits(oneTurn)
		b.connect()
		b.connect().raw("\x16\x03\x01\x01\x00\x01")
		stalled := b.connect()
		stops := &stopsAfterHello{Conn: stalled.conn}
		go tls.Client(stops, trusting("a.example")).Handshake()
		synctest.Wait()
		c := b.connect()
		b.takes(0, func() { c.secure(b.mode) })
		c.expect("220 ")
		c.do("QUIT", "221 ")
	})
}

// TestTurnsEndWithTheirHandshake, also when that panics or is cut.
func TestTurnsEndWithTheirHandshake(t *testing.T) {
	for name, end := range map[string]func(*bubble){
		"panic": func(b *bubble) {
			c := b.connect()
			if err := c.tryHandshake(trusting("a.example")); err == nil {
				c.gone()
			}
			b.session("panic")
		},
		"cut while it waits": func(b *bubble) {
			release, _ := b.HoldTurn()
			c := b.connect()
			go c.tryHandshake(trusting("a.example"))
			synctest.Wait()
			b.counts(1, "handshakes_waiting")
			must(b.t, b.Close())
			b.session("drained")
			release()
		},
	} {
		t.Run(name, func(t *testing.T) {
			panics := func(l *proxy.Listener) { l.KeyLog = panicking{} }
			inBubble(t, proxy.ModeImplicitTLS, panics, mailServer, func(b *bubble) {
				b.SetLimits(oneTurn)
				end(b)
				time.Sleep(aDay) // in the bubble
				release, free := b.HoldTurn()
				if !free {
					b.t.Error("the turn was lost")
				}
				release()
				b.counts(0, "handshakes_waiting")
				if n := b.Slots(); n != 0 {
					b.t.Errorf("%d slots are taken", n)
				}
			})
		})
	}
}

// panicking is a key log with a bug. It is written to within the handshake.
type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("a bug in a key log") }

// stopsAfterHello is a client's connection on which nothing but the ClientHello
// is ever sent, and nothing read.
type stopsAfterHello struct{ net.Conn }

func (s *stopsAfterHello) Read([]byte) (int, error) { return 0, io.EOF }

func (s *stopsAfterHello) Close() error { return nil }
