package test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

// starttlsTotal is the name of a sample of starttls_total.
func starttlsTotal(outcome string) string {
	return fmt.Sprintf(`smtp_tlsproxy_starttls_total{listener="submission",outcome=%q}`, outcome)
}

// TestR1_InjectionBehindSTARTTLS: what comes in the flight of STARTTLS is
// never a command, neither before nor after TLS (CVE-2011-0411).
func TestR1_InjectionBehindSTARTTLS(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address})
	attacks := []struct {
		what     string
		segments []string
	}{
		{"a command", []string{"STARTTLS\r\nEHLO x\r\n"}},
		{"a whole transaction", []string{"STARTTLS\r\nEHLO x\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nDATA\r\n"}},
		{"a command in two segments", []string{"STARTTLS\r\nEH", "LO x\r\n"}},
		{"one byte", []string{"STARTTLS\r\nx"}},
		{"LF", []string{"STARTTLS\r\n\n"}},
		{"CRLF", []string{"STARTTLS\r\n\r\n"}},
		{"a command, with LF for line ends", []string{"STARTTLS\nEHLO x\n"}},
		{"100 kB", []string{"STARTTLS\r\n" + strings.Repeat("NOOP injected\r\n", 100_000/15)}},
		{"a ClientHello", []string{"STARTTLS\r\n" + string(helloFor(t, "a.example"))}},
		{"STARTTLS again", []string{"STARTTLS\r\nSTARTTLS\r\n"}},
		{"all of the plain phase", []string{"EHLO before.tls\r\nSTARTTLS\r\nEHLO x\r\n"}},
	}
	for i, attack := range attacks {
		c := dial(t, p.submission, "")
		c.mustGreet(t)
		for _, segment := range attack.segments {
			if err := c.send([]byte(segment)); err != nil && segment == attack.segments[0] {
				c.fatal(t, err)
			}
		}
		if err := c.raw.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got := c.rest(t)
		if _, after, greeted := strings.Cut(got, "250 STARTTLS\r\n"); greeted {
			got = after
		}
		if !strings.HasPrefix(got, "503 5.5.1 ") || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: the reply is %q, want one 503 5.5.1 and the end", attack.what, got)
		}
		p.waitMetric(t, starttlsTotal("injection"), fmt.Sprint(i+1))
	}
	server.requireClients(t, p, 0)
	if n := p.metric(t, starttlsTotal("upgraded")+" "); n != "0" {
		t.Errorf("%s handshakes came about, want none", n)
	}
}

// TestR2_R11_PlainTextInsteadOfClientHello: bytes behind our 220 go to TLS,
// break the handshake, and are no commands. Nor is what follows.
func TestR2_R11_PlainTextInsteadOfClientHello(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address})
	submission := p.ports()[1]
	hello := string(helloFor(t, "a.example"))
	attacks := []string{
		"EHLO x\r\nMAIL FROM:<a@x>\r\n", "\n", "NOOP\r\nQUIT\r\n", "x" + hello, "\r\n" + hello,
		"NOOP\r\n" + hello, hello[:100] + "EHLO x\r\n" + hello[100:], "\x16\x03\x01\x00\x02\x01\x00EHLO x\r\nNOOP\r\n",
	}
	for i, attack := range attacks {
		c := atHandshake(t, submission, "")
		c.mustSend(t, attack)
		c.raw.CloseWrite() // fails where the proxy has closed before
		requireOnlyAlerts(t, attack, c.rest(t))
		p.waitMetric(t, starttlsTotal("handshake_failed"), fmt.Sprint(i+1))
	}
	server.requireClients(t, p, 0)
}

// requireOnlyAlerts wants that the answer has no byte of SMTP.
func requireOnlyAlerts(t *testing.T, to, answer string) {
	t.Helper()
	for _, record := range splitRecords(t, []byte(answer)) {
		if record.kind != alertRecord && record.kind != handshakeRecord {
			t.Errorf("the answer to %.60q has a record of kind %d: %q", to, record.kind, answer)
		}
	}
}

// TestR11_NoPlainTextAfterAFailedHandshake: a client that does not take our
// certificate cannot go on in plain text.
func TestR11_NoPlainTextAfterAFailedHandshake(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	for _, port := range p.ports() {
		for name, config := range map[string]*tls.Config{
			"another authority": {ServerName: "a.example", RootCAs: newCertificates(t).ca.Pool()},
			"an old version":    {ServerName: "a.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
			"a foreign ALPN":    {ServerName: "a.example", NextProtos: []string{"h2"}},
		} {
			c := atHandshake(t, port, "")
			tap := c.tapped(0, 0)
			if err := c.startTLS(config); err == nil {
				t.Fatalf("port %s: the handshake with %s succeeded", port.name, name)
			}
			c.send([]byte("EHLO x\r\nNOOP\r\nMAIL FROM:<a@x>\r\n")) // fails where the proxy has closed before
			c.raw.CloseWrite()
			c.use(tap)
			c.rest(t)
			tap.records(t) // there are no others
		}
	}
	p.waitMetric(t, starttlsTotal("handshake_failed"), "3")
	server.requireClients(t, p, 0)
}

// TestR3_LastPlainByteIsThe220: replies to a pipelined group come in order and
// before the 220, and everything behind that is TLS.
func TestR3_LastPlainByteIsThe220(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := dial(t, p.submission, "")
		tap := c.tapped(0, 0)
		c.mustGreet(t)
		c.mustSend(t, "NOOP\r\nEHLO before.tls\r\nMAIL FROM:<a@x>\r\nRSET\r\nVRFY x\r\nSTARTTLS\r\n")
		for _, code := range []int{250, 250, 530, 250, 530, 220} {
			if _, err := c.expect(code); err != nil {
				c.fatal(t, err)
			}
		}
		if err := c.startTLS(&tls.Config{ServerName: "b.example", RootCAs: certs.ca.Pool(), MaxVersion: version}); err != nil {
			c.fatal(t, err)
		}
		c.must(t, 250, "EHLO client.test")
		c.mustEnd(t, 221, "QUIT")
		if records := tap.records(t); len(records) == 0 || records[0].kind != handshakeRecord {
			t.Errorf("the first of the %d records is not of the handshake", len(records))
		}
	}
}

// TestR4_NothingSpontaneousAfterTheHandshake: the backend greets; the client
// sees that on 465 only, and on 587 its first bytes are its first reply.
func TestR4_NothingSpontaneousAfterTheHandshake(t *testing.T) {
	t.Parallel()
	const greeting = "220-first line\r\n220-second line\r\n220 recorder.test\r\n"
	server := startRecorder(t, withHeader, func(r *recorder) { r.greeting, r.blob = greeting, []byte("250 the reply\r\n") })
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	for _, port := range p.ports() {
		want := "250 the reply\r\n221 2.0.0 Bye\r\n"
		if port.name == "465" {
			want = greeting + want
		}
		for range 20 { // one would be luck, if it were a race
			c := handshaken(t, port, clientOptions{serverName: "a.example", trust: certs})
			if port.name == "587" && c.unread(t) > 0 {
				t.Error("port 587: there are bytes before the first command")
			}
			c.mustSend(t, "XBLOB\r\nQUIT\r\n")
			if got := c.rest(t); got != want {
				t.Fatalf("port %s: the client got %q, want %q", port.name, got, want)
			}
		}
	}
}

// TestR8_STARTTLSWithoutEHLO is allowed.
func TestR8_STARTTLSWithoutEHLO(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	c := dial(t, p.submission, "")
	c.mustGreet(t)
	c.must(t, 220, "starttls")
	if err := c.startTLS(clientOptions{serverName: "b.example", trust: certs}.config()); err != nil {
		c.fatal(t, err)
	}
	marker := newMarker()
	c.must(t, 250, "EHLO "+marker)
	c.mustEnd(t, 221, "QUIT")
	if got, want := string(server.waitSession(t, marker).bytes()), "EHLO "+marker+"\r\nQUIT\r\n"; got != want {
		t.Errorf("the backend got %q, want %q", got, want)
	}
}
