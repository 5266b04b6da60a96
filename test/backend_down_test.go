package test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// backendErrors is the name of a sample of backend_errors_total.
func backendErrors(reason string) string {
	return fmt.Sprintf(`smtp_tlsproxy_backend_errors_total{backend="mta",reason=%q}`, reason)
}

// requireNoService wants that both ports do the handshake and then say one
// reply and end: on 465 at once, in place of a greeting, and on 587 when the
// client has spoken. The reply is a whole one, or the start of one line. ready tells that the proxy knows what it will say.
func requireNoService(t *testing.T, p *proxy, reply, outcome string, ready func(sessions int)) {
	t.Helper()
	for i, port := range p.ports() {
		c := handshaken(t, port, clientOptions{serverName: "a.example", trust: p.certificates})
		ready(i + 1)
		if port.name == "587" {
			if n := c.unread(t); n > 0 {
				t.Errorf("port 587: %d bytes came before the first command", n)
			}
			c.mustSend(t, "EHLO client.test\r\n")
		}
		got := c.rest(t)
		ours := strings.HasPrefix(got, reply) && strings.Count(got, "\r\n") == 1 && strings.HasSuffix(got, "\r\n")
		if got != reply && (strings.HasSuffix(reply, "\r\n") || !ours) {
			t.Errorf("port %s: the client got %q, want %q and the end", port.name, got, reply)
		}
		if line := p.waitSession(t, c.local()); line.Outcome != outcome {
			t.Errorf("port %s: the outcome is %s, want %s", port.name, line.Outcome, outcome)
		}
	}
}

// TestR78_BackendDown: nobody listens there.
func TestR78_BackendDown(t *testing.T) {
	t.Parallel()
	p := startProxy(t, setup{certificates: newCertificates(t), backend: loopback(t)})
	requireNoService(t, p, "421 4.3.2 ", "backend_unavailable", func(n int) {
		p.waitMetric(t, backendErrors("refused"), fmt.Sprint(n))
	})
	p.waitLog(t, `"level":"WARN"`, "backend does not answer")
}

// TestR78_BackendRefusesInItsGreeting: its own words reach the client.
func TestR78_BackendRefusesInItsGreeting(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	for _, greeting := range []string{
		"554 5.3.2 no service here\r\n", "421 4.3.2 too busy\r\n", "421-too busy\r\n421-come back\r\n421 later\r\n", "521 host does not accept mail\r\n",
	} {
		t.Run(greeting[:4], func(t *testing.T) {
			t.Parallel()
			server := startRecorder(t, withHeader, func(r *recorder) { r.greeting = greeting })
			p := startProxy(t, setup{certificates: certs, backend: server.address})
			requireNoService(t, p, greeting, "backend_refused", func(n int) {
				p.waitMetric(t, backendErrors("greeting_rejected"), fmt.Sprint(n))
			})
			for _, s := range server.clients() {
				if got := s.bytes(); len(got) > 0 {
					t.Errorf("the backend got %q", got)
				}
			}
		})
	}
}

// TestR78_BackendNeverGreets, or says what is no greeting, or leaves.
func TestR78_BackendNeverGreets(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	for _, test := range []struct{ name, says, reason string }{
		{"silence", "", "greeting_timeout"},
		{"half a greeting", "220-recorder.te", "greeting_timeout"},
		{"no SMTP", "* OK IMAP4 ready\r\n", "greeting_invalid"},
		{"two greetings", "220 one\r\n220 two\r\n", "greeting_invalid"},
		{"too long a greeting", strings.Repeat("220-more\r\n", 2000), "greeting_invalid"},
		{"a hang-up", "-", "greeting_eof"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			address := startServer(t, func(conn net.Conn) {
				if test.says == "-" {
					return
				}
				io.WriteString(conn, test.says)
				io.Copy(io.Discard, conn)
			})
			p := startProxy(t, setup{certificates: certs, backend: address, timeouts: "greeting: 1s"})
			requireNoService(t, p, "421 4.3.2 ", "backend_unavailable", func(n int) {
				p.waitMetric(t, backendErrors(test.reason), fmt.Sprint(n))
			})
		})
	}
}
