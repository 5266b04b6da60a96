package test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// terminate tells the proxy to stop, and waits until it says that it does.
func (p *proxy) terminate(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	p.waitLog(t, "shutting down: no new clients")
	p.stopped = true
}

// requireExit wants the proxy to end by itself.
func (p *proxy) requireExit(t *testing.T, code int) {
	t.Helper()
	if got := p.waitExit(t, patience); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
}

// requireDrained wants 421 and the end, and then hangs up.
func requireDrained(t *testing.T, c *client) {
	t.Helper()
	if got := c.rest(t); !strings.HasPrefix(got, "421 4.3.2 ") || strings.Count(got, "\n") != 1 {
		c.fatal(t, fmt.Errorf("at the shutdown the client got %q, want one 421 4.3.2 and the end", got))
	}
	c.close()
}

// TestR82_TermWithIdleSessions: between two transactions clients get 421.
func TestR82_TermWithIdleSessions(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, drain: "1m", mx: loopback(t)})
	var idle []*client
	for _, port := range p.ports() {
		for _, said := range []string{"", "EHLO client.test", "RSET"} {
			c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
			if said != "" {
				c.must(t, 250, said)
			}
			idle = append(idle, c)
		}
		c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
		c.mailTo(t, "client.test", "r@x")
		c.must(t, 354, "DATA")
		c.must(t, 250, "text\r\n.") // one message done
		idle = append(idle, c)
	}
	p.terminate(t)
	for _, c := range idle {
		requireDrained(t, c)
	}
	p.requireExit(t, 0)
}

// TestR82_TermBeforeTLS: in the plain phase 421 comes at once, and in the
// handshake in place of a backend.
func TestR82_TermBeforeTLS(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, drain: "1m"})
	greeted, helped := dial(t, p.submission, ""), dial(t, p.submission, "")
	for _, c := range []*client{greeted, helped} {
		c.mustGreet(t)
	}
	helped.must(t, 250, "EHLO before.tls")
	var late []*client
	for _, port := range p.ports() {
		late = append(late, atHandshake(t, port, ""))
	}
	p.waitMetric(t, `smtp_tlsproxy_connections_open{listener="submissions"}`, "1")
	p.terminate(t)
	requireDrained(t, greeted)
	requireDrained(t, helped)
	for i, c := range late {
		if err := c.startTLS(clientOptions{serverName: "a.example", trust: certs}.config()); err != nil {
			c.fatal(t, err)
		}
		if i == 1 {
			c.mustSend(t, "EHLO client.test\r\n")
		}
		requireDrained(t, c)
	}
	p.requireExit(t, 0)
	for _, s := range server.clients() {
		if got := s.bytes(); len(got) > 0 {
			t.Errorf("the backend got %q", got)
		}
	}
}

// TestR82_TermWithinMessages: they finish, are delivered once, and their
// clients are told. A reload has no meaning meanwhile and does no harm.
func TestR82_TermWithinMessages(t *testing.T) {
	t.Parallel()
	server := startPostfix(t)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied, drain: "1m", mx: loopback(t)})
	type message struct {
		*client
		marker, left string
	}
	var sending []message
	for _, port := range p.ports() {
		for _, way := range []string{"DATA", "BDAT", "MAIL"} {
			c := message{client: open(t, port, clientOptions{serverName: "a.example", trust: certs}), marker: newMarker()}
			c.must(t, 250, "EHLO client.test")
			c.must(t, 250, "MAIL FROM:<sender@client.test>")
			text := "Subject: " + c.marker + "\r\n\r\n" + strings.Repeat("text\r\n", 1000)
			switch way {
			case "DATA":
				c.must(t, 250, "RCPT TO:<user@a.example>")
				c.must(t, 354, "DATA")
				c.mustSend(t, text[:3000])
				c.left = text[3000:] + ".\r\n"
			case "BDAT":
				c.must(t, 250, "RCPT TO:<user@a.example>")
				c.mustSend(t, "BDAT 3000\r\n"+text[:3000])
				if _, err := c.expect(250); err != nil {
					c.fatal(t, err)
				}
				c.left = fmt.Sprintf("BDAT %d LAST\r\n%s", len(text)-3000, text[3000:])
			case "MAIL":
				c.left = "DATA\r\n" + text + ".\r\n" // behind RCPT
			}
			sending = append(sending, c)
		}
	}
	p.terminate(t)
	writeFile(t, p.file, "no configuration: [")
	for range 3 {
		p.signal(t, syscall.SIGHUP)
	}
	eventually(t, "no more clients are taken", func() bool {
		conn, err := net.DialTimeout("tcp", p.submissions, time.Second)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	for _, c := range sending {
		if text, mail := strings.CutPrefix(c.left, "DATA\r\n"); mail {
			c.must(t, 250, "RCPT TO:<user@a.example>")
			c.must(t, 354, "DATA")
			c.left = text
		}
		c.mustSend(t, c.left)
		if _, err := c.expect(250); err != nil {
			c.fatal(t, err)
		}
		requireDrained(t, c.client)
	}
	p.requireExit(t, 0)
	for _, what := range []string{"configuration refused", "configuration reloaded"} {
		if line := lineWith(p.logged(), what); line != "" {
			t.Errorf("the reload in the drain had an effect: %s", line)
		}
	}
	for _, c := range sending {
		server.waitMessage(t, c.marker)
	}
	eventually(t, "the queue is empty", func() bool { return len(server.queued(t)) == 0 })
	if messages := server.messages(t); len(messages) != len(sending) {
		t.Errorf("%d messages were delivered, want %d:\n%s", len(messages), len(sending), bytes.Join(messages, []byte("\n----\n")))
	}
}

// TestR82_DrainIsBounded: a message that does not end is cut, and does not
// become a whole one.
func TestR82_DrainIsBounded(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	for code, drain := range []string{"1s", "1h"} { // the second one is cut by a second signal, which is a failure
		p := startProxy(t, setup{certificates: certs, backend: server.address, drain: drain, mx: loopback(t)})
		var markers []string
		for _, port := range p.ports() {
			markers = append(markers, newMarker())
			c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
			c.mailTo(t, markers[len(markers)-1], "r@x")
			c.must(t, 354, "DATA")
			c.mustSend(t, "half a message\r\n")
		}
		p.terminate(t)
		if code == 1 {
			p.signal(t, syscall.SIGTERM)
		}
		p.requireExit(t, code)
		for _, marker := range markers {
			if got := server.waitSession(t, marker).bytes(); !bytes.HasSuffix(got, []byte("DATA\r\nhalf a message\r\n")) {
				t.Errorf("the backend got %q", got)
			}
		}
	}
}
