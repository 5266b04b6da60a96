package proxy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// TestPlainPhase ends the phase before TLS in every way.
func TestPlainPhase(t *testing.T) {
	tests := []struct {
		name    string
		client  func(*client)
		outcome string // of the session
		phase   string // of starttls_total
		level   string
	}{
		{"quit", func(c *client) { c.do("QUIT", "221 ") }, "pretls", "quit", "INFO"},
		{"injection", func(c *client) { c.do("STARTTLS\r\nRSET", "503 ") }, "refused", "injection", "INFO"},
		{"TLS at once", func(c *client) { c.raw("\x16\x03\x01\x00\x05hello") }, "pretls", "tls_without_starttls", "INFO"},
		{"HTTP", func(c *client) { c.do("POST / HTTP/1.1", "554 ") }, "refused", "http", "INFO"},
		{"errors", func(c *client) {
			for range starttls.DefaultMaxErrors {
				c.do("MAIL FROM:<>", "530 ")
			}
			c.expect("421 4.7.0 ")
		}, "refused", "too_many_errors", "INFO"},
		{"commands", func(c *client) {
			for range starttls.DefaultMaxCommands {
				c.do("NOOP", "250 ")
			}
			c.expect("421 4.7.0 ")
		}, "refused", "too_many_commands", "INFO"},
		{"timeout", func(c *client) { c.expect("421 4.4.2 ") }, "pretls", "timeout", "INFO"},
		{"hung up", func(c *client) { c.halfClose() }, "pretls", "disconnected", "DEBUG"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, proxy.ModeSTARTTLS, nil, mailServer, func(b *bubble) {
				c := b.connect()
				c.expect("220 ")
				test.client(c)
				c.end()
				if line := b.session(test.outcome); line["level"] != test.level {
					b.t.Errorf("line %v", line)
				}
				b.counts(1, "starttls_total", "outcome", test.phase)
				b.counts(1, "starttls_total")
				b.counts(1, "sessions_total", "outcome", test.outcome, "backend", "none")
				if n := b.backend.connections(); n != 0 {
					b.t.Errorf("%d backend connections", n)
				}
			})
		})
	}
}

// TestSTARTTLSUnavailable: without a certificate STARTTLS gets 454, and the
// session goes on (R7).
func TestSTARTTLSUnavailable(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.example", "b.example"} {
		must(t, certificates().ca.WriteFolder(dir, name, devcert.Leaf{Names: []string{name}}))
	}
	l := listenerTo(t, proxy.ModeSTARTTLS, "127.0.0.1:1")
	l.Certificates = openStoreOf(t, dir, "")
	must(t, os.Remove(filepath.Join(dir, "b.example", "key.pem")))
	must(t, os.RemoveAll(filepath.Join(dir, "a.example"))) // the one that was loaded
	if err := l.Certificates.Reload(t.Context()); err == nil {
		t.Error("b.example is served without its key")
	}
	srv := serve(t, l)
	c := srv.client("starttls")
	c.expect("220 ")
	c.do("STARTTLS", "454 ")
	c.do("NOOP", "250 ")
	c.do("QUIT", "221 ")
	c.end()
	srv.session("pretls")
	srv.counts(1, "starttls_total", "outcome", "unavailable")
	srv.counts(1, "starttls_total", "outcome", "quit")
}

// TestWaitingForGreeting: what the client says before the backend greets waits
// for that (finding F), and then arrives.
func TestWaitingForGreeting(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		greet := make(chan struct{})
		backend := newBackend(t, func(p *peer) {
			<-greet
			if p.r.Buffered() > 0 {
				p.note("fault", "bytes before the greeting")
			}
			mailServer(p)
		})
		srv := serve(t, listenerTo(t, mode, backend.address))
		c := srv.tlsClient(mode)
		c.send("EHLO client.example", "NOOP", "QUIT")
		close(greet)
		if mode == proxy.ModeImplicitTLS {
			c.expect("220 backend.example ")
		}
		c.expect("250-backend.example")
		c.expect("250 2.0.0 ok NOOP")
		c.expect("221 ")
		c.end()
		if said := backend.only().transcript(); strings.Contains(said, "fault") {
			t.Error(said)
		}
	})
}

// TestSessionCounts: the gauge of open connections comes back to 0.
func TestSessionCounts(t *testing.T) {
	inBubble(t, proxy.ModeImplicitTLS, nil, mailServer, func(b *bubble) {
		c := b.relayed()
		b.counts(1, "connections_open", "listener", "implicit")
		c.do("QUIT", "221 ")
		c.end()
		c.conn.Close()
		synctest.Wait()
		b.counts(0, "connections_open", "listener", "implicit")
		b.counts(1, "connections_total", "listener", "implicit")
		b.counts(1, "tls_handshakes_total", "result", "ok")
		b.counts(0, "tls_handshakes_total", "result", "failed")
	})
}
