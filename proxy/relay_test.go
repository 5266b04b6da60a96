package proxy_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// TestLastReplySurvivesPipelining: a client that has sent a megabyte more
// than anybody reads still gets the last reply (R63).
func TestLastReplySurvivesPipelining(t *testing.T) {
	more := strings.Repeat("NOOP "+strings.Repeat("x", 57)+"\r\n", 16<<10)
	tests := []struct {
		name    string
		script  func(*peer)
		first   string
		last    string
		outcome string
	}{
		{"backend refuses", func(p *peer) { p.send("554 5.7.1 not you") }, "", "554 5.7.1 not you\r\n", "backend_refused"},
		{"backend leaves", func(p *peer) {
			p.send("220 ready")
			p.expect("QUIT")
			p.send("221 bye")
		}, "QUIT\r\n", "221 bye\r\n", ""}, // where the backend's reset is noticed depends on time
		{"HTTP", mailServer, "GET / HTTP/1.1\r\n", "554 5.5.1 This is an SMTP server", "refused"},
	}
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				backend := newBackend(t, test.script)
				srv := serve(t, listenerTo(t, mode, backend.address))
				c := srv.tlsClient(mode)
				if mode == proxy.ModeImplicitTLS && test.first != "" {
					c.expect("220 ")
				}
				c.raw(test.first + more)
				got := c.reply()
				for !strings.HasPrefix(got, test.last) {
					if got = c.reply(); got == "" {
						c.fatalf("the stream ended before %q", test.last)
					}
				}
				c.end()
				c.conn.Close()
				if test.outcome != "" {
					srv.session(test.outcome)
				}
			})
		}
	})
}

// TestBackendEndsWithinReply: the client gets what came, and a proper end of
// TLS, and no reply is invented (R61).
func TestBackendEndsWithinReply(t *testing.T) {
	for _, part := range []string{"", "25", "250-first\r\n", "250-first\r\n250 sec"} {
		backend := newBackend(t, func(p *peer) {
			p.send("220 ready")
			p.expect("VRFY x")
			p.raw(part)
		})
		srv := serve(t, listenerTo(t, proxy.ModeImplicitTLS, backend.address))
		c := srv.tlsClient(proxy.ModeImplicitTLS)
		c.expect("220 ")
		c.send("VRFY x")
		if got, err := io.ReadAll(c.r); string(got) != part || err != nil {
			t.Errorf("got %q and %v, want %q and the end", got, err, part)
		}
		c.conn.Close()
		line := srv.session("backend_error")
		contains(t, line["error"].(string), "owed a reply")
		if line["level"] != "WARN" {
			t.Errorf("line %v", line)
		}
	}
}

// TestBackendEndsWithinMessage: a backend that leaves while the client sends a
// message owes no reply, and has failed all the same.
func TestBackendEndsWithinMessage(t *testing.T) {
	for end, outcome := range map[string]string{"": "backend_error", "421 4.4.2 timeout\r\n": "ok"} {
		backend := newBackend(t, func(p *peer) {
			p.send("220 ready")
			p.expect("DATA")
			p.send("354 go ahead")
			p.expect("half\r\n")
			p.raw(end)
		})
		srv := serve(t, listenerTo(t, proxy.ModeImplicitTLS, backend.address))
		c := srv.tlsClient(proxy.ModeImplicitTLS)
		c.expect("220 ")
		c.do("DATA", "354 ")
		c.send("half")
		if got, err := io.ReadAll(c.r); string(got) != end || err != nil {
			t.Errorf("got %q and %v, want %q and the end", got, err, end)
		}
		c.conn.Close()
		line := srv.session(outcome)
		if outcome == "backend_error" {
			contains(t, line["error"].(string), "backend closed the connection within a message")
		}
	}
}

// TestClientEndsWithinMessage: the backend sees the client's stream end where
// it did, and nothing that would complete the message (R60).
func TestClientEndsWithinMessage(t *testing.T) {
	ends := map[string]func(*client){
		"close_notify": func(c *client) { c.halfClose() },
		"FIN alone": func(c *client) { // an attacker's, perhaps
			must(c.t, c.conn.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite())
		},
		"reset": func(c *client) {
			raw := c.conn.(*tls.Conn).NetConn().(*net.TCPConn)
			must(c.t, raw.SetLinger(0))
			must(c.t, raw.Close())
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			const message = "Subject: x\r\n\r\ntext\r\n."
			arrived, all := make(chan bool), make(chan string, 1)
			backend := newBackend(t, func(p *peer) {
				p.send("220 ready")
				p.expect("DATA")
				p.send("354 go ahead")
				got := make([]byte, len(message))
				_, _ = io.ReadFull(p.r, got)
				close(arrived)
				rest, _ := io.ReadAll(p.r)
				all <- string(got) + string(rest)
			})
			srv := serve(t, listenerTo(t, proxy.ModeImplicitTLS, backend.address))
			c := srv.tlsClient(proxy.ModeImplicitTLS)
			c.expect("220 ")
			c.do("DATA", "354 ")
			c.raw(message)
			<-arrived
			end(c)
			if got := <-all; got != message {
				t.Errorf("the backend got %q, want %q", got, message)
			}
			c.conn.Close()
			srv.session("client_error")
			srv.counts(0, "messages_total", "tls", "true")
		})
	}
}

// TestHalfClose over real sockets: the client ends its stream behind a
// message, and the replies still come (R62).
func TestHalfClose(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		backend := newBackend(t, func(p *peer) {
			mailServer(p)
			p.end() // R62
			p.send("421 done")
		})
		srv := serve(t, listenerTo(t, mode, backend.address))
		c := srv.tlsClient(mode)
		if mode == proxy.ModeImplicitTLS {
			c.expect("220 ")
		}
		c.send("MAIL FROM:<a@client.example>", "RCPT TO:<b@backend.example>", "DATA")
		for _, code := range []string{"250", "250", "354"} {
			c.expect(code)
		}
		c.send("text", ".")
		c.halfClose()
		c.expect("250 2.0.0 queued")
		c.expect("421 done")
		c.end()
		line := srv.session("ok")
		if line["messages"] != 1.0 {
			t.Errorf("line %v", line)
		}
	})
}

// TestBackendResets: what broke is the backend, whichever direction saw it.
func TestBackendResets(t *testing.T) {
	backend := newBackend(t, func(p *peer) {
		p.send("220 ready")
		p.expect("NOOP")
		_ = p.conn.(*net.TCPConn).SetLinger(0)
	})
	srv := serve(t, listenerTo(t, proxy.ModeImplicitTLS, backend.address))
	c := srv.tlsClient(proxy.ModeImplicitTLS)
	c.expect("220 ")
	c.send("NOOP")
	c.end()
	contains(t, srv.session("backend_error")["error"].(string), "connection reset by peer")
}

// TestClientResets the same way.
func TestClientResets(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serve(t, listenerTo(t, proxy.ModeImplicitTLS, backend.address))
	c := srv.tlsClient(proxy.ModeImplicitTLS)
	c.expect("220 ")
	raw := c.conn.(*tls.Conn).NetConn().(*net.TCPConn)
	must(t, raw.SetLinger(0))
	must(t, raw.Close())
	contains(t, srv.session("client_error")["error"].(string), "connection reset by peer")
}

// TestEveryByte: random bytes, in random pieces, arrive as they were sent, in
// both directions at once (R56).
func TestEveryByte(t *testing.T) {
	const size = 1 << 20
	up, down := randomBytes(1, size), randomBytes(2, size)
	got := make(chan []byte, 1)
	backend := newBackend(t, func(p *peer) {
		p.send("220 ready")
		p.expect("DATA")
		p.send("354 go ahead")
		go func() { inPieces(p.conn, down, 3) }()
		all := make([]byte, size)
		_, _ = io.ReadFull(p.r, all)
		got <- all
		p.line()
	})
	srv := serve(t, listenerTo(t, proxy.ModeImplicitTLS, backend.address))
	c := srv.tlsClient(proxy.ModeImplicitTLS)
	c.expect("220 ")
	c.do("DATA", "354 ")
	go func() { inPieces(c.conn, up, 4) }()
	all := make([]byte, size)
	if _, err := io.ReadFull(c.r, all); err != nil || !bytes.Equal(all, down) {
		t.Errorf("the client got other bytes than the backend sent; error %v", err)
	}
	if !bytes.Equal(<-got, up) {
		t.Error("the backend got other bytes than the client sent")
	}
}

func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, seed))
	all := make([]byte, n)
	for i := range all {
		// Many line ends and dots, so that something like the end of a
		// message is among them; but not that itself.
		all[i] = "\r\n.\x00\xff21ab"[r.IntN(9)]
	}
	return bytes.ReplaceAll(all, []byte("\r\n.\r\n"), []byte("\r\n.\rx"))
}

func inPieces(w io.Writer, all []byte, seed uint64) {
	r := rand.New(rand.NewPCG(seed, seed))
	for len(all) > 0 {
		n := min(1+r.IntN(20000), len(all))
		if _, err := w.Write(all[:n]); err != nil {
			return
		}
		all = all[n:]
	}
}

// TestLongEHLOReply: a backend whose reply to EHLO has no end does not fill
// our memory; the client gets 421 (R70).
func TestLongEHLOReply(t *testing.T) {
	inBubble(t, proxy.ModeImplicitTLS, nil, func(p *peer) {
		p.send("220 ready")
		p.command()
		p.expect("EHLO client.example")
		for {
			p.send("250-" + strings.Repeat("X", 500))
		}
	}, func(b *bubble) {
		c := b.relayed()
		c.send("EHLO client.example")
		c.expect("421 4.3.0 proxy.example service not available")
		c.end()
		contains(b.t, b.session("backend_error")["error"].(string), "too long")
	})
}

// TestLinger: a client that does not close keeps us for a second, and one that
// goes on sending for ten.
func TestLinger(t *testing.T) {
	for _, test := range []struct {
		every, want time.Duration
	}{{0, time.Second}, {300 * time.Millisecond, 10 * time.Second}} {
		inBubble(t, proxy.ModeImplicitTLS, nil, mailServer, func(b *bubble) {
			c := b.relayed()
			c.do("QUIT", "221 ")
			c.end()
			var sending sync.WaitGroup
			defer sending.Wait()
			if test.every > 0 {
				sending.Go(func() { drip(c.conn.(*tls.Conn).NetConn(), test.every) })
			}
			b.takes(test.want, func() { must(b.t, b.Shutdown(b.t.Context())) })
		})
	}
}
