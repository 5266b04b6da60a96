package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// mxTotal is the name of a sample of starttls_total of the mx listener.
func mxTotal(outcome string) string {
	return fmt.Sprintf(`smtp_tlsproxy_starttls_total{listener="mx",outcome=%q}`, outcome)
}

// plainClient connects to the port with optional STARTTLS.
func plainClient(t *testing.T, p *proxy) *client {
	t.Helper()
	return open(t, p.plain(), clientOptions{local: clientAddress, trust: p.certificates})
}

// sendPlain sends a message without TLS.
func (c *client) sendPlain(t *testing.T, helo, marker string) {
	t.Helper()
	c.mailTo(t, helo, "user@a.example")
	c.must(t, 354, "DATA")
	c.must(t, 250, "Subject: "+marker+"\r\n\r\ntext\r\n.")
}

// TestR12_HeaderTellsNoTLS lets aiosmtpd read the header of a client in plain
// text, and of the same client once it is under TLS.
func TestR12_HeaderTellsNoTLS(t *testing.T) {
	t.Parallel()
	oracle := startAiosmtpd(t)
	certs := newCertificates(t)
	for _, version := range []string{"proxy-v1", "proxy-v2"} {
		p := startProxy(t, setup{certificates: certs, backend: oracle.address, clientInfo: version, mx: loopback(t)})
		plain, secure := newMarker(), newMarker()
		c := plainClient(t, p)
		c.sendPlain(t, plain, plain)
		header, _ := oracle.waitSession(t, plain)
		requireAddresses(t, header, c.local(), p.mx)
		for name := range header.TLVs {
			if name != "UNIQUE_ID" && name != "CRC32C" {
				t.Errorf("%s: TLV %s of a client without TLS: %v", version, name, header.TLVs[name])
			}
		}
		if version == "proxy-v2" && header.CRC != "correct" {
			t.Errorf("the CRC32C is %s", header.CRC)
		}
		c.must(t, 220, "STARTTLS")
		if err := c.startTLS(clientOptions{serverName: "b.example", trust: certs}.config()); err != nil {
			c.fatal(t, err)
		}
		c.sendPlain(t, secure, secure)
		c.mustEnd(t, 221, "QUIT")
		header, _ = oracle.waitSession(t, secure)
		line := p.waitSession(t, c.local())
		requireAddresses(t, header, c.local(), p.mx)
		if version == "proxy-v2" {
			requireTLVs(t, header, map[string]string{
				"SSL": "true", "SSL_CLIENT": "1", "SSL_VERSION": "TLSv1.3", "SSL_CIPHER": line.Cipher,
				"AUTHORITY": "b.example", "UNIQUE_ID": line.ID,
			})
		}
		for sample, want := range map[string]string{
			mxTotal("plaintext"): "1", mxTotal("upgraded"): "1",
			`smtp_tlsproxy_messages_total{listener="mx",tls="false"}`: "1",
			`smtp_tlsproxy_messages_total{listener="mx",tls="true"}`:  "1",
		} {
			p.waitMetric(t, sample, want)
		}
	}
}

// TestR12_SessionLineTellsNoTLS of a client in plain text.
func TestR12_SessionLineTellsNoTLS(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address, mx: loopback(t)})
	c := plainClient(t, p)
	c.sendPlain(t, "client.test", newMarker())
	c.mustEnd(t, 221, "QUIT")
	line := p.waitSession(t, c.local())
	want := sessionLine{Message: "session", ID: line.ID, Listener: "mx", Client: c.local(), Backend: "mta", Outcome: "ok"}
	if line != want || line.ID == "" {
		t.Errorf("session line %+v, want %+v", line, want)
	}
}

// TestR6_R12_R14_NoIdentityInPlainText: AUTH is neither offered nor passed on,
// nor is what would give the client another address.
func TestR6_R12_R14_NoIdentityInPlainText(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader, func(r *recorder) {
		r.ehlo = crlf("250-recorder.test", "250-AUTH PLAIN LOGIN", "250-AUTH=PLAIN LOGIN", "250-REQUIRETLS", "250-XCLIENT ADDR", "250-SIZE 1000", "250 XFORWARD ADDR")
	})
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address, mx: loopback(t)})
	marker := newMarker()
	c := plainClient(t, p)
	refused := func() {
		t.Helper()
		for _, line := range []string{"AUTH PLAIN AGEAYg==", "auth login", " AUTH PLAIN", "AUTH"} {
			if reply := c.must(t, 530, line); !strings.HasPrefix(reply, "530 5.7.0 ") {
				t.Errorf("the reply to %q is %q", line, reply)
			}
		}
		c.must(t, 502, "XCLIENT ADDR=192.0.2.66")
		c.must(t, 502, "xforward ADDR=192.0.2.66")
	}
	refused()
	for _, word := range []string{"AUTH", "REQUIRETLS", "XCLIENT", "XFORWARD"} {
		if ehlo := c.must(t, 250, "EHLO "+marker); strings.Contains(ehlo, word) {
			t.Errorf("%s is offered before TLS: %q", word, ehlo)
		}
	}
	c.must(t, 250, "MAIL FROM:<a@x>")
	refused()
	c.must(t, 250, "RSET")
	if got, want := c.must(t, 250, "EHLO "+marker), crlf("250-recorder.test", "250-SIZE 1000", "250 STARTTLS"); got != want {
		t.Errorf("in plain text the client sees %q, want %q", got, want)
	}
	c.mustEnd(t, 221, "QUIT")
	want := "EHLO " + marker + "\r\nMAIL FROM:<a@x>\r\nRSET\r\nEHLO " + marker + "\r\nQUIT\r\n"
	if got := string(server.waitSession(t, marker).bytes()); got != want {
		t.Errorf("the backend got %q, want %q", got, want)
	}
}

// TestR65_R67_EHLOInPlainText: what the backend offers stays byte for byte,
// without what is for TLS, and with STARTTLS once.
func TestR65_R67_EHLOInPlainText(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	for _, test := range []struct{ said, seen string }{
		{crlf("250-recorder.test greets you", "250-STARTTLS", "250-LIMITS RCPTMAX=20", "250-X-\xff\x00 \t", "250 vrfy"),
			crlf("250-recorder.test greets you", "250-LIMITS RCPTMAX=20", "250-X-\xff\x00 \t", "250-vrfy", "250 STARTTLS")},
		{crlf("250 recorder.test"), crlf("250-recorder.test", "250 STARTTLS")},
		{crlf("250-recorder.test", "250-CHUNKING", "250 AUTH PLAIN"), crlf("250-recorder.test", "250-CHUNKING", "250 STARTTLS")},
		{crlf("550-STARTTLS", "550 not for you"), crlf("550-STARTTLS", "550 not for you")},
	} {
		server := startRecorder(t, withHeader, func(r *recorder) { r.ehlo = test.said })
		p := startProxy(t, setup{certificates: certs, backend: server.address, mx: loopback(t)})
		c := plainClient(t, p)
		c.mustSend(t, "XONE\r\nEHLO two.test\r\nHELO three.test\r\nQUIT\r\n")
		want := "250 2.0.0 Ok\r\n" + test.seen + "250 2.0.0 Ok\r\n221 2.0.0 Bye\r\n"
		if got := c.rest(t); got != want {
			t.Errorf("the client got\n%q, want\n%q", got, want)
		}
	}
}

// TestR1_InjectionAfterPlainMail: a command behind a STARTTLS that comes after
// a transaction in plain text ends the session, too.
func TestR1_InjectionAfterPlainMail(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address, mx: loopback(t)})
	attacks := []string{
		"STARTTLS\r\nEHLO injected\r\n", "STARTTLS\r\nx", "STARTTLS\r\n\r\n", "starttls\r\nSTARTTLS\r\n", "STARTTLS\r\n" + string(helloFor(t, "a.example")),
		"STARTTLS\r\n" + strings.Repeat("NOOP injected\r\n", 5000),
	}
	for i, attack := range attacks {
		marker := newMarker()
		c := plainClient(t, p)
		c.sendPlain(t, marker, marker)
		c.mustSend(t, attack)
		if got := c.rest(t); !strings.HasPrefix(got, "503 5.5.1 ") || strings.Count(got, "\n") != 1 {
			t.Errorf("%.40q: the reply is %q, want one 503 5.5.1 and the end", attack, got)
		}
		p.waitMetric(t, mxTotal("injection"), fmt.Sprint(i+1))
		if got := string(server.waitSession(t, marker).bytes()); !strings.HasSuffix(got, "text\r\n.\r\n") {
			t.Errorf("%.40q: the backend got %q", attack, got)
		}
	}
	p.waitMetric(t, mxTotal("upgraded"), "0")
}

// TestR5_NothingOfThePlainPhaseSurvives: Postfix, which wants EHLO first, took
// a message in plain text and has a transaction open; after STARTTLS it knows
// nothing of the client but its address.
func TestR5_NothingOfThePlainPhaseSurvives(t *testing.T) {
	t.Parallel()
	server := startPostfix(t, "smtpd_helo_required = yes")
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied, mx: loopback(t)})
	first, second := newMarker(), newMarker()
	c := plainClient(t, p)
	c.sendPlain(t, "plain.test", first)
	c.must(t, 250, "MAIL FROM:<attacker@attacker.test>")
	c.must(t, 250, "RCPT TO:<victim@a.example>")
	c.must(t, 220, "STARTTLS")
	if err := c.startTLS(clientOptions{serverName: "a.example", trust: certs}.config()); err != nil {
		c.fatal(t, err)
	}
	for _, line := range []string{"MAIL FROM:<sender@client.test>", "RCPT TO:<user@a.example>", "DATA"} {
		c.must(t, 503, line)
	}
	c.sendPlain(t, "honest.test", second)
	c.must(t, 503, "STARTTLS")
	c.mustEnd(t, 221, "QUIT")
	for marker, helo := range map[string]string{first: "plain.test", second: "honest.test"} {
		message := string(server.waitMessage(t, marker))
		if strings.Contains(message, "attacker") || !strings.Contains(message, "Received: from "+helo+" (unknown ["+clientAddress+"])") {
			t.Errorf("the message is not from %s alone:\n%s", helo, message)
		}
	}
}

// TestR66_PipelinedGroupInPlainText: one reply for each command, in their
// order, wherever the segments are cut between proxy and backend.
func TestR66_PipelinedGroupInPlainText(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address, mx: loopback(t)})
	const group = "NOOP\r\nEHLO a.test\r\nMAIL FROM:<a@b>\r\nAUTH PLAIN\r\nRCPT TO:<c@d>\r\nSTARTTLS x\r\nDATA\r\n"
	codes := []int{250, 250, 250, 530, 250, 501, 354}
	for cut := 1; cut <= len(group); cut++ {
		c := plainClient(t, p)
		c.mustSend(t, group[:cut])
		c.mustSend(t, group[cut:])
		for i, code := range codes {
			if _, err := c.expect(code); err != nil {
				t.Fatalf("cut at %d, command %d: %v", cut, i+1, err)
			}
		}
		c.must(t, 250, "text\r\n.")
		c.mustEnd(t, 221, "QUIT")
	}
	for _, s := range server.clients() {
		words := strings.Fields(strings.ToUpper(string(s.bytes())))
		if slices.Contains(words, "AUTH") || slices.Contains(words, "STARTTLS") {
			t.Errorf("the backend got %q", s.bytes())
		}
	}
}
