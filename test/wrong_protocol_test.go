package test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"
)

// handshakeFailures is the name of a sample of tls_handshake_failures_total.
func handshakeFailures(listener, reason string) string {
	return fmt.Sprintf(`smtp_tlsproxy_tls_handshake_failures_total{listener=%q,reason=%q}`, listener, reason)
}

// requireCleanLog wants a log without control characters.
func requireCleanLog(t *testing.T, p *proxy) {
	t.Helper()
	for _, r := range p.logged() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("the log has the character %U:\n%q", r, tail(p.logged(), 20))
		}
	}
}

// TestR17_ClientHelloOnTheSTARTTLSPort: somebody configured the wrong port.
func TestR17_ClientHelloOnTheSTARTTLSPort(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address})
	hello := helloFor(t, "a.example")
	for i, sent := range [][]byte{hello, hello[:5], hello[:1], append(hello[:len(hello):len(hello)], "\r\nEHLO x\r\n"...)} {
		c := dial(t, p.submission, "")
		c.mustSend(t, string(sent))
		if got := c.rest(t); !strings.HasPrefix(got, "220 mail.a.example ") || strings.Count(got, "\n") != 1 {
			t.Errorf("the answer to %.10q is %q, want the greeting and the end", sent, got)
		}
		p.waitSession(t, c.local())
		p.waitMetric(t, starttlsTotal("tls_without_starttls"), fmt.Sprint(i+1))
	}
	server.requireClients(t, p, 0)
	requireCleanLog(t, p)
}

// TestR18_PlainTextOnTheTLSPort: each kind of stranger is let go at once, has
// its own reason, and reaches no backend.
func TestR18_PlainTextOnTheTLSPort(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address})
	random := make([]byte, 300)
	for i := range random {
		random[i] = byte(rand.N(256))
	}
	random[0] = 0x99 // the others begin as TLS does not, either
	strangers := map[string][]string{
		"plaintext_on_tls_port": {
			"EHLO client.test\r\n", "HELO client.test\r\n", "QUIT\r\n", "\r\n\r\n\r\n", string(random),
			"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10\x01\x00\x80" + strings.Repeat("\x00", 34), // SSLv2 hello
			"\x00\x00\x00\x00\x00\x00", "SSH-2.0-OpenSSH_9.2\r\n", "\x03\x00\x00\x13\x0e\xe0\x00\x00",
		},
		"http_on_tls_port": {
			"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", "POST / HTTP/1.1\r\n\r\n", "PUT / HTTP/1.1\r\n\r\n", "HEAD / HTTP/1.0\r\n\r\n",
			"OPTIONS * HTTP/1.1\r\n\r\n", "CONNECT a.example:25 HTTP/1.1\r\n\r\n", "DELETE / HTTP/1.1\r\n\r\n", "PATCH / HTTP/1.1\r\n\r\n",
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		},
	}
	for reason, greetings := range strangers {
		for i, greeting := range greetings {
			c := dial(t, p.submissions, "")
			c.mustSend(t, greeting)
			if got := c.rest(t); got != "" {
				requireOnlyAlerts(t, greeting, got)
			}
			p.waitMetric(t, handshakeFailures("submissions", reason), fmt.Sprint(i+1))
			p.waitSession(t, c.local())
		}
	}
	server.requireClients(t, p, 0)
	requireCleanLog(t, p)
}

// TestR18_SilentClient: on both ports the handshake has its deadline.
func TestR18_SilentClient(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address, tls: "handshake_timeout: 1s"})
	for i, port := range p.ports() {
		for _, sent := range []string{"", "\x16\x03\x01", "GET"} {
			c := atHandshake(t, port, "")
			c.mustSend(t, sent)
			if got := c.rest(t); got != "" {
				t.Errorf("port %s: the answer to %q is %q", port.name, sent, got)
			}
		}
		p.waitMetric(t, handshakeFailures([]string{"submissions", "submission"}[i], "timeout"), "3")
	}
	server.requireClients(t, p, 0)
}

// TestR19_UnexpectedProxyHeader: on a port that is not configured for it, it
// is garbage, and nobody believes the address in it.
func TestR19_UnexpectedProxyHeader(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	v1 := "PROXY TCP4 203.0.113.66 203.0.113.1 4711 465\r\n"
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x42\xcb\x00\x71\x01\x12\x67\x01\xd1"
	for i, header := range []string{v1, v2} {
		c := dial(t, p.submissions, "")
		c.mustSend(t, header+string(helloFor(t, "a.example")))
		if got := c.rest(t); got != "" {
			t.Errorf("port 465: the answer to %q is %q", header, got)
		}
		p.waitMetric(t, handshakeFailures("submissions", "plaintext_on_tls_port"), fmt.Sprint(i+1))
	}
	c := dial(t, p.submission, "")
	c.mustSend(t, v2)
	for line := range strings.Lines(c.rest(t)) { // the header spells QUIT
		if !strings.HasPrefix(line, "220 ") && !strings.HasPrefix(line, "500 ") && !strings.HasPrefix(line, "221 ") {
			t.Errorf("port 587: the answer to version 2 has %q", line)
		}
	}
	// A line that is none of its commands does not end the session; the
	// backend then hears the true address.
	marker := newMarker()
	c = dial(t, p.submission, clientAddress)
	c.mustSend(t, v1)
	for _, code := range []int{220, 500} {
		if _, err := c.expect(code); err != nil {
			c.fatal(t, err)
		}
	}
	c.must(t, 220, "STARTTLS")
	if err := c.startTLS(clientOptions{serverName: "a.example", trust: certs}.config()); err != nil {
		c.fatal(t, err)
	}
	c.must(t, 250, "EHLO "+marker)
	c.mustEnd(t, 221, "QUIT")
	header := server.waitSession(t, marker).header
	if !bytes.Contains(header, []byte{127, 0, 0, 9, 127, 0, 0, 1}) {
		t.Errorf("the backend's header does not name %s: %x", clientAddress, header)
	}
	server.requireClients(t, p, 1)
	if line := lineWith(p.logged(), "203.0.113"); line != "" {
		t.Errorf("the log has the address in the header: %s", line)
	}
	requireCleanLog(t, p)
}

// httpMethods are those of the attacks across protocols (ALPACA).
var httpMethods = []string{"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "PRI"}

// TestR20_HTTPInsideTLS: 554 and the end, and not a byte of it comes back, nor
// goes to the backend.
func TestR20_HTTPInsideTLS(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	for _, port := range p.ports() {
		for _, method := range httpMethods {
			marker := newMarker()
			c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
			c.mustSend(t, method+" /"+marker+" HTTP/1.1\r\nHost: "+marker+"\r\n\r\nMAIL FROM:<"+marker+"@x>\r\n")
			got := c.rest(t)
			if !strings.HasPrefix(got, "554 5.5.1 ") || strings.Count(got, "\n") != 1 || strings.Contains(got, marker) || strings.Contains(got, method) {
				t.Errorf("port %s: the answer to %s is %q, want one 554 5.5.1 and the end", port.name, method, got)
			}
			if line := p.waitSession(t, c.local()); line.Outcome != "refused" {
				t.Errorf("port %s: the outcome of %s is %s, want refused", port.name, method, line.Outcome)
			}
		}
	}
	server.requireClients(t, p, 2*len(httpMethods))
	for _, s := range server.clients() {
		if got := s.bytes(); bytes.Contains(got, []byte("HTTP")) || bytes.Contains(got, []byte("MAIL")) {
			t.Errorf("the backend got %q", got)
		}
	}
}

// TestR20_HTTPBeforeTLS: the same in the plain phase.
func TestR20_HTTPBeforeTLS(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address})
	for i, method := range httpMethods {
		c := dial(t, p.submission, "")
		c.mustSend(t, method+" /secret HTTP/1.1\r\nHost: secret\r\n\r\nSTARTTLS\r\n")
		c.mustGreet(t)
		answer, err := io.ReadAll(c.reader)
		if got := string(answer); err != nil || !strings.HasPrefix(got, "554 5.5.1 ") || strings.Count(got, "\n") != 1 || strings.Contains(got, "secret") {
			t.Errorf("the answer to %s is %q (%v), want one 554 5.5.1 and the end", method, got, err)
		}
		p.waitMetric(t, starttlsTotal("http"), fmt.Sprint(i+1))
	}
	server.requireClients(t, p, 0)
}
