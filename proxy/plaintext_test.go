package proxy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// optional lets the clients of a listener send mail without TLS.
func optional(l *proxy.Listener) { l.STARTTLS = starttls.Optional }

// serveOptional serves a listener with optional STARTTLS.
func serveOptional(t *testing.T, backend *fakeBackend) *server {
	t.Helper()
	l := listenerTo(t, proxy.ModeSTARTTLS, backend.address)
	optional(&l)
	return serve(t, l)
}

// plainMail sends a message without TLS, on a connection that was not greeted.
func (c *client) plainMail() {
	c.expect("220 proxy.example ")
	c.do("EHLO plain.example", "250-proxy.example\r\n")
	c.message()
}

func (c *client) message() {
	c.do("MAIL FROM:<a@client.example>", "250 ")
	c.do("RCPT TO:<b@backend.example>", "250 ")
	c.do("DATA", "354 ")
	c.do("Subject: x\r\n\r\nSTARTTLS\r\n.", "250 2.0.0 queued")
}

// TestPlainMail: a client that does without TLS is served, its EHLO reaches
// the backend, and the backend is not told of TLS (R12).
func TestPlainMail(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serveOptional(t, backend)
	c := srv.client("starttls")
	c.plainMail()
	c.do("AUTH PLAIN AGEAYg==", "530 5.7.0 ")
	c.do("XCLIENT ADDR=192.0.2.1", "502 ") // R14
	ehlo := c.do("EHLO again.example", "250-backend.example\r\n")
	if strings.Contains(ehlo, "AUTH") || strings.Contains(ehlo, "XCLIENT") || strings.Count(ehlo, "STARTTLS") != 1 {
		t.Errorf("the reply to EHLO in plain text is %q", ehlo)
	}
	c.do("QUIT", "221 ")
	c.end()
	p, line := backend.only(), srv.session("ok")
	if got := p.header.SourceAddr.String(); got != c.conn.LocalAddr().String() {
		t.Errorf("source address %s, want %s", got, c.conn.LocalAddr())
	}
	tlvs, err := p.header.TLVs()
	must(t, err)
	if ssl, ok := tlvparse.FindSSL(tlvs); ok || p.tlv(proxyproto.PP2_TYPE_AUTHORITY) != "" {
		t.Errorf("the header tells of TLS: %+v", ssl)
	}
	if got := p.tlv(proxyproto.PP2_TYPE_UNIQUE_ID); got == "" || got != line["id"] {
		t.Errorf("UNIQUE_ID %q, and the log's id is %q", got, line["id"])
	}
	if said := p.transcript(); strings.Contains(said, "AUTH PLAIN AG") || strings.Contains(said, "192.0.2.1") || strings.Count(said, "EHLO plain.example") != 1 {
		t.Errorf("the backend saw:\n%s", said)
	}
	for _, field := range []string{"tls_version", "cipher"} {
		if value, ok := line[field]; ok {
			t.Errorf("%s is %v in the log", field, value)
		}
	}
	if line["backend"] != "mta" || line["messages"] != 1.0 {
		t.Errorf("line %v", line)
	}
	srv.counts(1, "messages_total", "tls", "false")
	srv.counts(0, "messages_total", "tls", "true")
	srv.counts(1, "starttls_total", "outcome", "plaintext")
	srv.counts(1, "starttls_total")
	srv.counts(1, "sessions_total", "backend", "mta", "outcome", "ok")
}

// TestUpgradeAfterPlainMail: behind a message, or within a transaction, a
// client may ask for TLS. Nothing that was said before survives (R5).
func TestUpgradeAfterPlainMail(t *testing.T) {
	for _, before := range []string{"", "MAIL FROM:<attacker@client.example>"} {
		backend := newBackend(t, mailServer)
		srv := serveOptional(t, backend)
		c := srv.client("starttls")
		c.plainMail()
		if before != "" {
			c.do(before, "250 ")
		}
		c.do("STARTTLS", "220 2.0.0 ")
		c.handshake(trusting("a.example"))
		c.do("NOOP", "250 2.0.0 ok NOOP")
		sendMessage(c)
		line := srv.session("ok")
		if line["messages"] != 2.0 || line["tls_version"] != "TLSv1.3" || line["server_name"] != "a.example" {
			t.Errorf("line %v", line)
		}
		if n := backend.connections(); n != 2 {
			t.Fatalf("%d backend connections, want 2", n)
		}
		plain, secure := backend.peers[0], backend.peers[1]
		if said := secure.transcript(); strings.Contains(said, "plain.example") || strings.Contains(said, "attacker") {
			t.Errorf("the second backend connection got what was said before TLS:\n%s", said)
		}
		if said := plain.transcript(); strings.Contains(said, "recv: STARTTLS\r\n") != strings.Contains(said, "Subject") {
			t.Errorf("the first backend connection:\n%s", said) // the word is a line of the message
		}
		tlvs, err := secure.header.TLVs()
		must(t, err)
		if ssl, ok := tlvparse.FindSSL(tlvs); !ok || !ssl.ClientSSL() {
			t.Errorf("the second header does not tell of TLS: %v", tlvs)
		}
		for _, mail := range []string{"true", "false"} {
			srv.counts(1, "messages_total", "tls", mail)
		}
		for _, outcome := range []string{"plaintext", "upgraded"} {
			srv.counts(1, "starttls_total", "outcome", outcome)
		}
		srv.counts(1, "sessions_total")
		srv.counts(line["bytes_to_client"].(float64), "bytes_total", "direction", "to_client")
		srv.counts(line["bytes_to_backend"].(float64), "bytes_total", "direction", "to_backend")
	}
}

// TestUpgradeAtOnce needs no backend before TLS, where TLS is optional, too.
func TestUpgradeAtOnce(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serveOptional(t, backend)
	c := srv.client("starttls")
	c.startTLS(trusting("a.example"))
	sendMessage(c)
	checkHeader(t, srv, c, backend.only(), "TLSv1.3", "a.example")
	srv.counts(0, "starttls_total", "outcome", "plaintext")
}

// TestUpgradeLosesIdle: a relay in plain text leaves no deadline for the
// handshake and the relay after it.
func TestUpgradeLosesIdle(t *testing.T) {
	inBubble(t, proxy.ModeSTARTTLS, optional, mailServer, func(b *bubble) {
		c := b.connect()
		c.plainMail()
		c.do("STARTTLS", "220 ")
		time.Sleep(proxy.DefaultHandshakeTimeout - time.Second)
		c.handshake(trusting("a.example"))
		c.do("NOOP", "250 ")
		time.Sleep(proxy.DefaultRelayIdle - time.Second)
		c.do("NOOP", "250 ")
		b.takes(proxy.DefaultRelayIdle, c.end)
		b.session("idle_timeout")
	})
}

// TestUpgradeWithHastyBackend: a backend that hangs up, or says something, in
// the moment of STARTTLS does not end the client's session.
func TestUpgradeWithHastyBackend(t *testing.T) {
	for _, last := range []string{"", "421 4.4.2 timeout\r\n"} {
		inBubble(t, proxy.ModeSTARTTLS, optional, func(p *peer) {
			p.send("220 ready")
			for range 2 {
				if !p.command() {
					return
				}
			}
			time.Sleep(time.Minute)
			p.raw(last)
		}, func(b *bubble) {
			b.buffer = 8 // every write to the client waits for it
			c := b.connect()
			c.expect("220 ")
			c.do("EHLO plain.example", "250-")
			c.do("VRFY x", "250 ")
			c.send("STARTTLS")
			time.Sleep(time.Minute + closeSoon) // the backend's end comes while the 220 is being written
			c.expect("220 2.0.0 ")
			c.handshake(trusting("a.example"))
			c.do("VRFY x", "250 ")
			c.do("QUIT", "221 ")
			c.end()
			b.session("ok")
		})
	}
}

// TestInjectionAfterPlainMail: a command behind a later STARTTLS ends the
// session as well (R1).
func TestInjectionAfterPlainMail(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serveOptional(t, backend)
	c := srv.client("starttls")
	c.plainMail()
	c.send("STARTTLS", "EHLO injected.example")
	c.expect("503 5.5.1 ")
	c.end()
	srv.session("refused")
	srv.counts(1, "starttls_total", "outcome", "injection")
	srv.counts(0, "starttls_total", "outcome", "upgraded")
	if said := backend.only().transcript(); strings.Contains(said, "injected") {
		t.Errorf("the backend got it:\n%s", said)
	}
}

// TestFailedUpgrade: a handshake that fails ends the session, and no plain
// text is taken any more (R11).
func TestFailedUpgrade(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serveOptional(t, backend)
	c := srv.client("starttls")
	c.plainMail()
	c.do("STARTTLS", "220 ")
	c.send("MAIL FROM:<attacker@client.example>")
	c.conn.(interface{ CloseWrite() error }).CloseWrite()
	c.gone()
	line := srv.session("handshake_failed")
	if _, ok := line["tls_version"]; ok || line["backend"] != "mta" || line["messages"] != 1.0 {
		t.Errorf("line %v", line)
	}
	srv.counts(1, "starttls_total", "outcome", "handshake_failed")
	if said := backend.only().transcript(); strings.Contains(said, "attacker") {
		t.Errorf("the backend got it:\n%s", said)
	}
}

// TestR13_NoSTARTTLSToBackend: a backend without tls.mode starttls, which
// offers STARTTLS, never gets the command: not from a probe, nor from a client
// in plain text or under TLS.
func TestR13_NoSTARTTLSToBackend(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serveOptional(t, backend)
	must(t, proxy.CheckBackend(t.Context(), listenerTo(t, proxy.ModeSTARTTLS, backend.address).Backend))
	c := srv.client("starttls")
	c.expect("220 ")
	c.do("EHLO plain.example", "250-")
	c.do("VRFY x", "250 ") // makes the connection in plain text
	c.do("STARTTLS", "220 2.0.0 ")
	c.handshake(trusting("a.example"))
	c.do("EHLO secure.example", "250-")
	c.do("STARTTLS", "503 5.5.1 ")
	c.do("QUIT", "221 ")
	c.end()
	srv.session("ok")
	if n := backend.connections(); n != 3 {
		t.Fatalf("%d backend connections, want those of the probe, of plain text and of TLS", n)
	}
	for _, p := range backend.peers {
		said := p.transcript()
		if !strings.Contains(said, "recv: EHLO ") || strings.Contains(said, "recv: STARTTLS") {
			t.Errorf("a backend connection:\n%s", said)
		}
	}
}
