package proxy_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// TestBackendFailuresInPlainText: the reply is to the client's command, which
// waits for it already, and the session ends with that (R78).
func TestBackendFailuresInPlainText(t *testing.T) {
	hello := func(reply string) func(*peer) {
		return func(p *peer) {
			p.send("220 ready")
			p.expect("EHLO plain.example\r\n")
			p.raw(reply)
			if reply != "" {
				p.line()
			}
		}
	}
	tests := []struct {
		name, reply, reason, outcome, log string
		dial                              proxy.DialFunc
		script                            func(*peer)
	}{
		{"refused", unavailable, "refused", "backend_unavailable", "connection refused", dialRefused, nil},
		{"554", "554 not you\r\n", "greeting_rejected", "backend_refused", "554 not you", nil, greets("554 not you\r\n")},
		{"silent", unavailable, "greeting_timeout", "backend_unavailable", "no greeting: ", nil, never},
		{"EHLO refused", "550 not you\r\n", "greeting_rejected", "backend_refused", "reply to EHLO: 550 not you", nil, hello("550 not you\r\n")},
		{"EHLO hangs up", unavailable, "greeting_eof", "backend_unavailable", "no reply to EHLO: EOF", nil, hello("")},
		{"EHLO no reply", unavailable, "greeting_invalid", "backend_unavailable", "not an SMTP reply", nil, hello("hello\r\n")},
		{"EHLO half a reply", unavailable, "greeting_invalid", "backend_unavailable", "code 354", nil, hello("354 more\r\n")},
		{"EHLO silent", unavailable, "greeting_timeout", "backend_unavailable", "no reply to EHLO: ", nil, func(p *peer) {
			p.send("220 ready")
			p.line()
			p.line()
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, proxy.ModeSTARTTLS, optional, test.script, func(b *bubble) {
				if test.dial == nil {
					test.dial = b.backend.dial
				}
				c := b.connectVia(test.dial)
				c.expect("220 ")
				c.do("EHLO plain.example", "250-")
				c.send("MAIL FROM:<a@client.example>", "RCPT TO:<b@backend.example>") // one reply
				began := time.Now()
				c.expect(test.reply)
				if took := time.Since(began); took > 0 != strings.HasSuffix(test.reason, "timeout") {
					b.t.Errorf("it took %v", took)
				}
				c.end()
				c.conn.Close()
				contains(b.t, b.session(test.outcome)["error"].(string), test.log)
				b.counts(1, "backend_errors_total", "reason", test.reason)
				b.counts(1, "sessions_total", "outcome", test.outcome, "backend", "mta")
				b.counts(1, "starttls_total", "outcome", "plaintext")
			})
		})
	}
}

// plainClient begins a session in plain text, and says one command of the
// backend's.
func plainClient(b *bubble, dial proxy.DialFunc, command string) *client {
	c := b.connectVia(dial)
	c.expect("220 ")
	c.do("EHLO plain.example", "250-")
	c.send(command)
	return c
}

// TestDrainInPlainText begins a shutdown in each phase of a session without
// TLS (R82).
func TestDrainInPlainText(t *testing.T) {
	told := func(c *client) { c.expect(shuttingDown) }
	testDrains(t, optional, []drainPhase{
		{"dial", required, never, func(b *bubble) *client { return plainClient(b, dialForever, "VRFY x") }, told, "drained"},
		{"greeting", required, never, func(b *bubble) *client { return plainClient(b, b.backend.dial, "VRFY x") }, told, "drained"},
		{"EHLO", required, func(p *peer) {
			p.send("220 ready")
			p.line()
			p.line()
		}, func(b *bubble) *client { return plainClient(b, b.backend.dial, "VRFY x") }, told, "drained"},
		{"idle relay", required, mailServer, func(b *bubble) *client {
			c := plainClient(b, b.backend.dial, "VRFY x")
			c.expect("250 ")
			return c
		}, told, "drained"},
		{"message", required, mailServer, func(b *bubble) *client {
			c := plainClient(b, b.backend.dial, "MAIL FROM:<a@client.example>")
			c.expect("250 ")
			c.do("DATA", "354 ")
			return c
		}, func(c *client) {
			c.do("text\r\n.", "250 2.0.0 queued")
			c.expect(shuttingDown)
		}, "drained"},
		{"upgrade within a transaction", required, mailServer, func(b *bubble) *client {
			c := plainClient(b, b.backend.dial, "MAIL FROM:<a@client.example>")
			c.expect("250 ")
			c.do("STARTTLS", "220 ")
			return c
		}, func(c *client) {
			c.handshake(trusting("a.example"))
			c.do("EHLO client.example", shuttingDown)
		}, "drained"},
	})
}

// TestKillInPlainText: Close ends a session without TLS at once.
func TestKillInPlainText(t *testing.T) {
	for name, dial := range map[string]proxy.DialFunc{"dial": dialForever, "relay": nil} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, proxy.ModeSTARTTLS, optional, mailServer, func(b *bubble) {
				if dial == nil {
					dial = b.backend.dial
				}
				plainClient(b, dial, "MAIL FROM:<a@client.example>")
				synctest.Wait()
				b.takes(0, func() { must(b.t, b.Close()) })
				b.session("drained")
			})
		})
	}
}
