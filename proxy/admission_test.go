package proxy_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// limits are unlimited but for what the change sets.
func limits(change func(*proxy.Limits)) proxy.Limits {
	l := unlimited
	change(&l)
	return l
}

// connectFrom begins a session of a client with another address.
func (b *bubble) connectFrom(address string) *client {
	b.t.Helper()
	ours, theirs := memoryPipe(465, b.buffer)
	theirs.remote = &net.TCPAddr{IP: net.ParseIP(address), Port: 50000}
	b.Begin(theirs, b.backend.dial)
	c := newClient(b.t, ours)
	c.patience = aDay
	return c
}

// welcomed checks that a client is let in, and leaves it where it is.
func (b *bubble) welcomed(c *client) *client {
	b.t.Helper()
	if b.mode == proxy.ModeSTARTTLS {
		c.expect("220 ")
	} else {
		c.secure(b.mode)
	}
	return c
}

// refused checks what a client gets that is not let in, and what is said and
// counted of it.
func (b *bubble) refused(c *client, reason, reply string) {
	b.t.Helper()
	before := b.metric("connections_rejected_total", "reason", reason)
	line := <-b.log.sessions
	for line["outcome"] != "refused" && len(b.log.sessions) > 0 {
		line = <-b.log.sessions // others have ended, too
	}
	if line["outcome"] != "refused" || line["level"] != "DEBUG" {
		b.t.Errorf("line %v", line)
	}
	if b.mode == proxy.ModeSTARTTLS {
		c.expect(reply + " (" + line["id"].(string) + ")\r\n")
	}
	c.end()
	if before < 1 {
		b.t.Errorf("no refusal with the reason %s was counted", reason)
	}
	if n := b.Slots(); n != int(b.metric("connections_open")) {
		b.t.Errorf("%d slots are taken by %v connections", n, b.metric("connections_open"))
	}
}

// TestR76_ConnectionsInAll: beyond the limit a client is refused, until
// another one leaves.
func TestR76_ConnectionsInAll(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		inBubble(t, mode, nil, mailServer, func(b *bubble) {
			const full = "421 4.7.0 proxy.example too many connections"
			b.SetLimits(limits(func(l *proxy.Limits) { l.Connections = 2 }))
			b.counts(2, "connections_limit")
			first := b.welcomed(b.connectFrom("192.0.2.1"))
			b.welcomed(b.connectFrom("192.0.2.2"))
			for _, address := range []string{"192.0.2.3", "192.0.2.1", "2001:db8::1"} {
				b.refused(b.connectFrom(address), "max_connections", full)
			}
			b.counts(3, "sessions_total", "outcome", "refused", "backend", "none")
			b.counts(2, "connections_open")
			b.counts(5, "connections_total")

			first.conn.Close()
			synctest.Wait()
			b.welcomed(b.connectFrom("192.0.2.3"))
			b.refused(b.connectFrom("192.0.2.4"), "max_connections", full)
		})
	})
}

// TestR76_ConnectionsOfOneClient: the limit of one is not another one's.
func TestR76_ConnectionsOfOneClient(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		inBubble(t, mode, nil, mailServer, func(b *bubble) {
			const enough = "421 4.7.0 proxy.example too many connections from your address"
			b.SetLimits(limits(func(l *proxy.Limits) { l.ConnectionsPerClient = 2 }))
			first := b.welcomed(b.connectFrom("192.0.2.1"))
			b.welcomed(b.connectFrom("::ffff:192.0.2.1"))
			b.refused(b.connectFrom("192.0.2.1"), "per_client", enough)
			b.welcomed(b.connectFrom("2001:db8::1"))
			b.welcomed(b.connectFrom("2001:db8::2"))
			b.refused(b.connectFrom("2001:db8::3"), "per_client", enough)
			b.welcomed(b.connectFrom("2001:db8:0:1::1"))
			b.welcomed(b.connectFrom("192.0.2.2"))

			first.conn.Close()
			synctest.Wait()
			b.welcomed(b.connectFrom("192.0.2.1"))
			b.refused(b.connectFrom("192.0.2.1"), "per_client", enough)
			if log := b.log.text(); strings.Contains(log, "WARN") {
				b.t.Errorf("one client's limit makes warnings:\n%s", log)
			}
		})
	})
}

func TestHandshakeRate(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		inBubble(t, mode, nil, mailServer, func(b *bubble) {
			const often = "421 4.7.0 proxy.example too many connections from your address in a short time"
			b.SetLimits(limits(func(l *proxy.Limits) { l.HandshakesPerSecondPerClient = 3 }))
			for _, allowed := range []int{6, 3} {
				for range allowed {
					b.welcomed(b.connectFrom("192.0.2.1")).conn.Close()
				}
				synctest.Wait()
				b.refused(b.connectFrom("192.0.2.1"), "handshake_rate", often)
				b.welcomed(b.connectFrom("192.0.2.2")).conn.Close()
				time.Sleep(time.Second) // in the bubble
			}
		})
	})
}

// TestR76_LimitsHoldOverAllListeners together, and a reload leaves the count as
// it is.
func TestR76_LimitsHoldOverAllListeners(t *testing.T) {
	backend := newBackend(t, mailServer)
	listeners := []proxy.Listener{
		listenerTo(t, proxy.ModeImplicitTLS, backend.address), listenerTo(t, proxy.ModeSTARTTLS, backend.address),
	}
	srv := serve(t, listeners...)
	srv.SetLimits(limits(func(l *proxy.Limits) { l.ConnectionsPerClient = 3 }))
	kept := []*client{srv.tlsClient(proxy.ModeImplicitTLS), srv.tlsClient(proxy.ModeSTARTTLS), srv.client("starttls")}
	kept[0].expect("220 ")
	kept[2].expect("220 ")
	for _, reload := range []func(){
		func() {},
		func() { must(t, srv.Reload(listeners)) },
		func() { srv.SetLimits(limits(func(l *proxy.Limits) { l.ConnectionsPerClient = 2 })) },
		func() { srv.SetLimits(limits(func(l *proxy.Limits) { l.Connections = 1 })) },
	} {
		reload()
		srv.client("implicit").gone()
		c := srv.client("starttls")
		c.expect("421 4.7.0 proxy.example too many connections")
		c.end()
		for _, c := range kept {
			c.do("NOOP", "250 ")
		}
		if n := srv.Slots(); n != 3 {
			t.Errorf("%d slots are taken, want 3", n)
		}
	}
	srv.counts(4, "connections_rejected_total", "listener", "implicit")
	srv.counts(4, "connections_rejected_total", "listener", "starttls")
	srv.counts(2, "connections_rejected_total", "reason", "max_connections")
	srv.counts(1, "connections_limit")
}

// TestFullIsWarnedOfAtTimes: a flood must not flood the log.
func TestFullIsWarnedOfAtTimes(t *testing.T) {
	inBubble(t, proxy.ModeSTARTTLS, nil, mailServer, func(b *bubble) {
		b.SetLimits(limits(func(l *proxy.Limits) { l.Connections = 1 }))
		b.welcomed(b.connect())
		const seconds, each = 35, 20
		for range seconds {
			for range each {
				b.connect().expect("421 ")
			}
			time.Sleep(time.Second) // in the bubble
		}
		log := b.log.text()
		if n := strings.Count(log, "WARN"); n != 4 {
			b.t.Errorf("%d warnings in %d s, want 4", n, seconds)
		}
		contains(b.t, log, `"open":1,"refused":1}`, `"open":1,"refused":200}`)
		b.counts(seconds*each, "connections_rejected_total", "reason", "max_connections")
	})
}

// TestDrainingRefusesNewClients: who comes while the server shuts down.
func TestDrainingRefusesNewClients(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		inBubble(t, mode, nil, mailServer, func(b *bubble) {
			busy := b.relayed()
			busy.do("MAIL FROM:<a@client.example>", "250 ")
			done := b.shutdown(time.Hour)
			b.refused(b.connect(), "draining", "421 4.3.2 proxy.example shutting down")
			busy.do("RSET", "250 ")
			busy.expect(shuttingDown)
			busy.end()
			must(b.t, <-done)
		})
	})
}

// TestR76_NoSlotIsLost: however a session ends, it gives its slot back, once.
func TestR76_NoSlotIsLost(t *testing.T) {
	ends := []struct {
		name string
		end  func(*bubble)
	}{
		{"quit", func(b *bubble) {
			c := b.relayed()
			c.do("QUIT", "221 ")
			c.end()
			c.conn.Close()
		}},
		{"closed before TLS", func(b *bubble) { b.connect().conn.Close() }},
		{"reset in the relay", func(b *bubble) {
			c := b.relayed()
			c.send("NOOP")
			synctest.Wait()
			c.conn.Close() // with the reply unread
		}},
		{"not TLS", func(b *bubble) {
			c := b.connect()
			c.raw("\x80nonsense\r\n")
			c.conn.Close()
		}},
		{"silent", func(b *bubble) {
			b.connect()
			time.Sleep(aDay) // in the bubble
		}},
		{"no backend", func(b *bubble) { b.connectVia(dialRefused).secure(b.mode) }},
		{"panic", func(b *bubble) {
			c := b.connectVia(func(context.Context) (net.Conn, error) { panic("a bug in a dial") })
			c.secure(b.mode)
			c.gone()
		}},
		{"cut", func(b *bubble) {
			b.relayed()
			b.connect()
			must(b.t, b.Close())
		}},
		{"refused", func(b *bubble) {
			b.SetLimits(limits(func(l *proxy.Limits) { l.ConnectionsPerClient = 1 }))
			c := b.welcomed(b.connect())
			b.connect()
			b.SetLimits(limits(func(l *proxy.Limits) { l.HandshakesPerSecondPerClient = 1 }))
			for range 5 {
				b.connect()
			}
			c.conn.Close()
		}},
	}
	for _, end := range ends {
		t.Run(end.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, mode proxy.Mode) {
				inBubble(t, mode, nil, mailServer, func(b *bubble) {
					end.end(b)
					time.Sleep(aDay) // in the bubble: every deadline passes
					synctest.Wait()
					if n := b.Slots(); n != 0 {
						b.t.Errorf("%d slots are taken", n)
					}
					b.counts(0, "connections_open")
				})
			})
		})
	}
}
