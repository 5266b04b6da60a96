package test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// TestR5_NothingSaidBeforeTLSSurvives: Postfix, which wants EHLO first, knows
// neither the name nor the commands from before TLS (RFC 3207 section 4.2).
func TestR5_NothingSaidBeforeTLSSurvives(t *testing.T) {
	t.Parallel()
	server := startPostfix(t, "smtpd_helo_required = yes")
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied})
	fresh := dial(t, server.direct, "")
	if _, err := fresh.expect(220); err != nil {
		t.Fatal(err)
	}
	want := fresh.must(t, 503, "MAIL FROM:<sender@client.test>")

	for _, port := range p.ports() {
		c := dial(t, port.address, clientAddress)
		if port.name == "587" {
			c.mustGreet(t)
			c.must(t, 250, "EHLO attacker.test")
			c.must(t, 530, "MAIL FROM:<attacker@attacker.test>")
			c.must(t, 530, "RCPT TO:<victim@a.example>")
			c.must(t, 500, "PROXY TCP4 203.0.113.1 203.0.113.2 1 2") // no command of SMTP
			c.must(t, 220, "STARTTLS")
		}
		if err := c.startTLS(clientOptions{serverName: "a.example", trust: certs}.config()); err != nil {
			c.fatal(t, err)
		}
		if port.name == "465" {
			c.mustGreet(t)
		}
		for _, line := range []string{"MAIL FROM:<sender@client.test>", "RCPT TO:<user@a.example>", "DATA"} {
			if got := c.must(t, 503, line); strings.HasPrefix(line, "MAIL") && got != want {
				t.Errorf("port %s: %s gets %q, and %q on a fresh connection", port.name, line, got, want)
			}
		}
		marker := newMarker()
		c.mailTo(t, "honest.test", "user@a.example")
		c.must(t, 354, "DATA")
		c.must(t, 250, "Subject: "+marker+"\r\n\r\ntext\r\n.")
		c.mustEnd(t, 221, "QUIT")
		message := string(server.waitMessage(t, marker))
		if strings.Contains(message, "attacker") || !strings.Contains(message, "Received: from honest.test (unknown ["+clientAddress+"])") {
			t.Errorf("port %s: the message is not from honest.test alone:\n%s", port.name, message)
		}
	}
	if line := lineWith(server.logged(), "attacker"); line != "" {
		t.Errorf("Postfix heard of the attacker: %s", line)
	}
}

// TestR6_NoIdentityBeforeTLS: credentials and envelopes in plain text are
// refused, and the backend has no connection until the handshake is done.
func TestR6_NoIdentityBeforeTLS(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	seen := 0
	for _, port := range p.ports() {
		c := dial(t, port.address, "")
		if port.name == "587" {
			c.mustGreet(t)
			c.must(t, 250, "EHLO before.tls")
			for _, line := range []string{
				"AUTH PLAIN AGF0dGFja2VyAHNlY3JldA==", "AUTH LOGIN", "auth plain", "AUTH EXTERNAL YXR0YWNrZXI=", "AUTH",
				"MAIL FROM:<attacker@attacker.test>", "mail from:<>", "RCPT TO:<victim@a.example>", "DATA", "BDAT 4 LAST",
				"XCLIENT ADDR=203.0.113.1", "XFORWARD ADDR=203.0.113.1", "VRFY root", "ETRN a.example",
			} {
				if reply := c.must(t, 530, line); !strings.HasPrefix(reply, "530 5.7.0 Must issue a STARTTLS command first") {
					t.Errorf("the reply to %s is %q", line, reply)
				}
			}
			c.must(t, 220, "STARTTLS")
		}
		server.requireClients(t, p, seen)
		marker := newMarker()
		if err := c.startTLS(clientOptions{serverName: "b.example", trust: certs}.config()); err != nil {
			c.fatal(t, err)
		}
		if port.name == "465" {
			c.mustGreet(t)
		}
		c.must(t, 250, "EHLO "+marker)
		c.mustEnd(t, 221, "QUIT")
		if got, want := string(server.waitSession(t, marker).bytes()), "EHLO "+marker+"\r\nQUIT\r\n"; got != want {
			t.Errorf("port %s: the backend got %q, want %q", port.name, got, want)
		}
		seen += 2 // this session, and the control
	}
	server.requireClients(t, p, seen)
}

// TestR7_RepliesBeforeTLS (RFC 3207 section 4).
func TestR7_RepliesBeforeTLS(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	c := dial(t, p.submission, "")
	c.mustGreet(t)
	for _, step := range []struct {
		code int
		line string
	}{
		{501, "STARTTLS foo"}, {501, "EHLO"}, {250, "EHLO before.tls"}, {250, "HELO before.tls"}, {250, "NOOP"}, {250, "noop x"},
		{250, "RSET"}, {501, "starttls now"}, {530, "EXPN root"}, {500, "UNKNOWN"}, {500, ""}, {500, "\x00\x01"},
	} {
		reply := c.must(t, step.code, step.line)
		if step.line != "" && step.code >= 500 && strings.Contains(strings.ToLower(reply), " foo") {
			t.Errorf("the reply echoes the client: %q", reply)
		}
	}
	c.mustEnd(t, 221, "QUIT")
	server.requireClients(t, p, 0)
}

// TestR7_TLSNotAvailable: without a certificate to serve STARTTLS gets 454,
// and the session goes on until there is one.
func TestR7_TLSNotAvailable(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	c := dial(t, p.submission, "")
	c.mustGreet(t)
	writeFile(t, filepath.Join(certs.dir, "empty.example", "notes"), "no certificate here")
	for _, name := range append([]string{"*.w.example"}, domains...) {
		if err := os.RemoveAll(filepath.Join(certs.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the proxy is not ready", func() bool {
		code, _ := get("http://" + p.admin + "/readyz")
		return code == http.StatusServiceUnavailable
	})
	if reply := c.must(t, 454, "STARTTLS"); !strings.HasPrefix(reply, "454 4.7.0 ") {
		t.Errorf("the reply to STARTTLS is %q, want 454 4.7.0", reply)
	}
	c.must(t, 250, "NOOP")
	c.must(t, 530, "MAIL FROM:<sender@client.test>")
	p.waitMetric(t, starttlsTotal("unavailable"), "1")

	if err := certs.ca.WriteFolder(certs.dir, defaultDomain, devcert.Leaf{Names: []string{defaultDomain}}); err != nil {
		t.Fatal(err)
	}
	p.waitReady(t)
	c.must(t, 220, "STARTTLS")
	if err := c.startTLS(clientOptions{serverName: "a.example", trust: certs}.config()); err != nil {
		c.fatal(t, err)
	}
	c.must(t, 250, "EHLO client.test")
	c.mustEnd(t, 221, "QUIT")
}
