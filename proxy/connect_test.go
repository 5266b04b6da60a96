package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

const unavailable = "421 4.3.2 proxy.example service not available, try again later ("

// dialFails fails so.
func dialFails(err error) proxy.DialFunc {
	return func(context.Context) (net.Conn, error) { return nil, err }
}

// dialBroken connects to a backend that is gone when the header is written.
func dialBroken(context.Context) (net.Conn, error) {
	ours, theirs := memoryPipe(25, memoryBuffer)
	theirs.Close()
	return ours, nil
}

func greets(text string) func(*peer) {
	return func(p *peer) {
		p.raw(text)
		p.line()
	}
}

// TestBackendFailures: on implicit TLS the reply is the greeting, after
// STARTTLS it is the answer to the first command, and nothing comes before
// that (R78).
func TestBackendFailures(t *testing.T) {
	unknownHost := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "mta.example"}}
	tests := []struct {
		name    string
		dial    proxy.DialFunc // nil: to the script
		script  func(*peer)
		reply   string
		reason  string // of backend_errors_total
		outcome string
		level   string
		log     string
	}{
		{"refused", dialFails(syscall.ECONNREFUSED), nil, unavailable, "refused", "backend_unavailable", "WARN", "connecting: connection refused"},
		{"DNS", dialFails(unknownHost), nil, unavailable, "dns", "backend_unavailable", "WARN", "no such host"},
		{"unreachable", dialFails(syscall.ENETUNREACH), nil, unavailable, "unreachable", "backend_unavailable", "WARN", "network is unreachable"},
		{"timeout", dialFails(context.DeadlineExceeded), nil, unavailable, "timeout", "backend_unavailable", "WARN", "connecting: context deadline exceeded"},
		{"other", dialFails(syscall.EPERM), nil, unavailable, "other", "backend_unavailable", "WARN", "operation not permitted"},
		{"header", dialBroken, nil, unavailable, "header", "backend_unavailable", "WARN", "PROXY header: connection reset by peer"},
		{"silent", nil, never, unavailable, "greeting_timeout", "backend_unavailable", "WARN", "no greeting: "},
		{"hangs up", nil, func(*peer) {}, unavailable, "greeting_eof", "backend_unavailable", "WARN",
			"no greeting: EOF; does it expect the PROXY header (version 2) of this address?"},
		{"not SMTP", nil, greets("SSH-2.0-OpenSSH\r\n"), unavailable, "greeting_invalid", "backend_unavailable", "WARN", "not an SMTP reply"},
		{"cut greeting", nil, func(p *peer) { p.raw("220 rea") }, unavailable, "greeting_eof", "backend_unavailable", "WARN", "EOF"},
		{"more than a greeting", nil, greets("220 ready\r\n250 ok\r\n"), unavailable, "greeting_invalid", "backend_unavailable", "WARN", "more bytes behind it"},
		{"half a reply", nil, greets("354 go ahead\r\n"), unavailable, "greeting_invalid", "backend_unavailable", "WARN", "code 354"},
		{"554", nil, greets("554-5.7.1 not\r\n554 5.7.1 you\r\n"), "554-5.7.1 not\r\n554 5.7.1 you\r\n", "greeting_rejected", "backend_refused", "INFO",
			`backend's greeting: 554-5.7.1 not\r\n554 5.7.1 you`},
		{"421", nil, greets("421 busy\r\n"), "421 busy\r\n", "greeting_rejected", "backend_refused", "INFO", "backend's greeting: 421 busy"},
	}
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				inBubble(t, mode, nil, test.script, func(b *bubble) {
					dial := test.dial
					if dial == nil {
						dial = b.backend.dial
					}
					c := b.connectVia(dial)
					c.secure(mode)
					if test.reason == "greeting_timeout" {
						time.Sleep(proxy.DefaultGreeting)
					}
					if mode == proxy.ModeSTARTTLS {
						c.hasNothing()
						// A group: one reply, and the rest has no answer.
						c.send("EHLO client.example", "MAIL FROM:<a@client.example>")
					}
					reply := c.expect(test.reply)
					c.end()
					c.conn.Close()
					line := b.session(test.outcome)
					if test.reply == unavailable {
						contains(b.t, reply, line["id"].(string))
					}
					contains(b.t, line["error"].(string), test.log)
					if line["level"] != test.level || line["backend"] != "mta" || line["server_name"] != "a.example" || line["tls_version"] != "TLSv1.3" {
						b.t.Errorf("line %v", line)
					}
					b.counts(1, "backend_errors_total", "reason", test.reason)
					b.counts(1, "backend_errors_total")
					b.counts(1, "sessions_total", "outcome", test.outcome, "backend", "mta")
				})
			})
		}
	})
}

// hasNothing checks that nothing was sent to the client that it did not read.
func (c *client) hasNothing() {
	c.t.Helper()
	synctest.Wait()
	in := c.conn.(*tls.Conn).NetConn().(*memoryConn).in
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.data) > 0 {
		c.fatalf("%d bytes came before the client's command", len(in.data))
	}
}

// TestFirstCommand: a client that waits with its first command, or never ends
// it, does not get the reply that was for that.
func TestFirstCommand(t *testing.T) {
	t.Run("silent", func(t *testing.T) {
		inBubble(t, proxy.ModeSTARTTLS, nil, nil, func(b *bubble) {
			c := b.connectVia(dialRefused)
			c.secure(b.mode)
			b.takes(starttls.DefaultIdleTimeout, c.end)
			b.session("backend_unavailable")
		})
	})
	t.Run("idle time of the listener", func(t *testing.T) {
		inBubble(t, proxy.ModeSTARTTLS, func(l *proxy.Listener) { l.Timeouts.PlainIdle = time.Minute }, nil, func(b *bubble) {
			c := b.connectVia(dialRefused)
			c.secure(b.mode)
			b.takes(time.Minute, c.end)
		})
	})
	t.Run("endless", func(t *testing.T) {
		inBubble(t, proxy.ModeSTARTTLS, nil, nil, func(b *bubble) {
			c := b.connectVia(dialRefused)
			c.secure(b.mode)
			c.raw(strings.Repeat("x", 13000))
			b.takes(0, c.end)
			c.conn.Close()
			b.session("backend_unavailable")
		})
	})
	t.Run("hangs up", func(t *testing.T) {
		inBubble(t, proxy.ModeSTARTTLS, nil, nil, func(b *bubble) {
			c := b.connectVia(dialRefused)
			c.secure(b.mode)
			c.halfClose()
			b.takes(0, c.end)
			b.session("backend_unavailable")
		})
	})
}

// TestClientWithoutAddress: a session whose client has no IP address is
// refused, and not given to the backend as one of the proxy's own (R45).
func TestClientWithoutAddress(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		for _, info := range []proxy.ClientInfo{proxy.ProxyV1, proxy.ProxyV2} {
			inBubble(t, mode, func(l *proxy.Listener) { l.Backend.ClientInfo = info }, mailServer, func(b *bubble) {
				ours, theirs := memoryPipe(465, memoryBuffer)
				theirs.remote = &net.UnixAddr{Name: "@", Net: "unix"}
				b.Begin(theirs, b.backend.dial)
				c := newClient(b.t, ours)
				c.patience = aDay
				c.secure(mode)
				if mode == proxy.ModeSTARTTLS {
					c.send("EHLO client.example")
				}
				c.expect(unavailable)
				c.end()
				line := b.session("backend_unavailable")
				contains(b.t, line["error"].(string), "PROXY header: the client's address is not an IP address")
				b.counts(1, "backend_errors_total", "reason", "header")
				if n := b.backend.connections(); n != 0 {
					b.t.Errorf("%d backend connections", n)
				}
			})
		}
	})
}

// TestDialErrors holds the errors of package net against their reasons, and
// tries every address.
func TestDialErrors(t *testing.T) {
	backend := newBackend(t, mailServer)
	tests := []struct {
		name      string
		addresses []string
		reason    string // "" when one of the addresses serves
	}{
		{"TCP", []string{freeAddress(t)}, "refused"},
		{"unix", []string{"unix:" + filepath.Join(t.TempDir(), "none")}, "refused"},
		{"DNS", []string{"not..a..name:25"}, "dns"},
		{"second address", []string{freeAddress(t), backend.address}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := listenerTo(t, proxy.ModeImplicitTLS, "")
			l.Backend.Addresses = test.addresses
			srv := serve(t, l)
			c := srv.tlsClient(proxy.ModeImplicitTLS)
			if test.reason == "" {
				c.expect("220 ")
				c.do("QUIT", "221 ")
				c.end()
				srv.session("ok")
				return
			}
			c.expect(unavailable)
			c.end()
			srv.session("backend_unavailable")
			srv.counts(1, "backend_errors_total", "reason", test.reason)
		})
	}
}

// TestSlowDial: the time that the dial may take is the backend's own, and a
// client that waits meanwhile is served.
func TestSlowDial(t *testing.T) {
	inBubble(t, proxy.ModeImplicitTLS, nil, mailServer, func(b *bubble) {
		c := b.connectVia(func(ctx context.Context) (net.Conn, error) {
			if _, limited := ctx.Deadline(); limited {
				return nil, errors.New("the session limits the dial")
			}
			time.Sleep(time.Hour)
			return b.backend.dial(ctx)
		})
		c.secure(b.mode)
		c.send("EHLO client.example")
		c.expect("220 ")
		c.expect("250-")
		c.do("QUIT", "221 ")
		c.end()
	})
}
