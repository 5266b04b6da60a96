package test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"syscall"
	"testing"
)

// sessionMark is in the lines of sessions, by log format.
var sessionMark = map[string]string{"text": "msg=session ", "json": `"msg":"session"`}

// TestR87_NoSecretsInTheLog: at level debug, nothing that the program writes
// has any part of credentials, envelopes or messages, under TLS or not, in
// whatever spelling. Each session has one line, with the id that the backend
// gets.
func TestR87_NoSecretsInTheLog(t *testing.T) {
	t.Parallel()
	for format, mark := range sessionMark {
		for _, trace := range []string{"false", "true"} {
			t.Run(format+", trace_header "+trace, func(t *testing.T) {
				t.Parallel()
				server := startRecorder(t, withHeader)
				p := startProxy(t, setup{
					certificates: newCertificates(t), backend: server.address, mx: loopback(t), trace: trace, logLevel: "debug", logFormat: format,
				})
				secret := rand.Text()
				var clients []string
				for _, port := range p.ports() {
					said := newMarker()
					told := open(t, port, clientOptions{serverName: "b.example", trust: p.certificates})
					tellSecrets(t, told, secret, said)
					s := server.waitSession(t, said)
					requireSecretTold(t, string(s.bytes()), secret, port)
					line := p.waitLog(t, mark, told.local())
					if id, _ := fieldOf(line, format, "id"); id == "" || !bytes.Contains(s.header, append([]byte{0x05, 0, byte(len(id))}, id...)) {
						t.Errorf("port %s: UNIQUE_ID of the header %q is not the id of %s", port.name, s.header, line)
					}
					clients = append(clients, told.local())
					clients = append(clients, leakSecrets(t, p, port, secret)...)
				}
				for _, local := range clients {
					p.waitLog(t, mark, local)
				}
				for _, page := range []string{"metrics", "status.json", ""} {
					_, body := get("http://" + p.admin + "/" + page)
					requireNoSecret(t, "page /"+page, body, secret)
				}
				p.signal(t, syscall.SIGTERM)
				p.waitExit(t, patience)
				p.stopped = true
				requireNoSecret(t, "log", p.logged(), secret)
				if got := strings.Count(p.logged(), mark); got != len(clients) {
					t.Errorf("%d lines for %d sessions", got, len(clients))
				}
			})
		}
	}
}

// tellSecrets has a whole session in which the secret is all that the client
// says, besides a word of ours.
func tellSecrets(t *testing.T, c *client, secret, said string) {
	t.Helper()
	c.must(t, 250, "EHLO "+secret+".test")
	for _, line := range authenticating(secret) {
		if _, err := c.last(line); err != nil { // 530 in plain text
			c.fatal(t, err)
		}
	}
	c.must(t, 250, "MAIL FROM:<"+secret+"@client.test>")
	c.must(t, 250, "RCPT TO:<"+secret+"@a.example>")
	c.must(t, 354, "DATA")
	c.must(t, 250, "Subject: "+secret+"\r\n\r\n"+secret+"\r\n"+base64Of(secret)+"\r\n.")
	c.must(t, 250, "NOOP "+said)
	c.mustEnd(t, 221, "QUIT")
}

// authenticating are the lines of AUTH in every way that a password is sent.
func authenticating(secret string) []string {
	plain := base64Of("\x00" + saslUser + "\x00" + secret)
	return []string{
		"AUTH PLAIN " + plain, "AUTH PLAIN", plain, "AUTH LOGIN", base64Of(saslUser), base64Of(secret), "AUTH LOGIN " + base64Of(secret),
		"AUTH XOAUTH2 " + base64Of("user="+saslUser+"\x01auth=Bearer "+secret+"\x01\x01"),
	}
}

// requireSecretTold wants that the backend got what the log may not have.
func requireSecretTold(t *testing.T, got, secret string, from port) {
	t.Helper()
	wanted := []string{"EHLO " + secret, "MAIL FROM:<" + secret, "Subject: " + secret, base64Of(secret)}
	if from.name != plainPort {
		wanted = append(wanted, authenticating(secret)...)
	}
	for _, want := range wanted {
		if !strings.Contains(got, want) {
			t.Errorf("port %s: the backend did not get %q", from.name, want)
		}
		bare := want == "AUTH PLAIN" || want == "AUTH LOGIN" || want == base64Of(saslUser)
		if tells(want, secret) == bare {
			t.Errorf("this test does not see whether %q tells of the secret %s", want, secret)
		}
	}
}

// leakSecrets has sessions that end badly, at each point where the proxy reads
// what a client says. It returns the addresses of their clients.
func leakSecrets(t *testing.T, p *proxy, to port, secret string) (clients []string) {
	t.Helper()
	ending := func(c *client, lines ...string) {
		c.mustSend(t, strings.Join(lines, "\r\n")+"\r\n")
		_ = c.raw.CloseWrite()
		c.rest(t)
		clients = append(clients, c.local())
	}
	ending(dial(t, to.address, ""), authenticating(secret)...) // where a ClientHello is due on port 465
	ending(dial(t, to.address, ""), secret+" "+base64Of(secret), "EHLO "+secret+strings.Repeat("x", 4000))
	ending(dial(t, to.address, ""), "GET /"+secret+" HTTP/1.1", "Authorization: Basic "+base64Of(saslUser+":"+secret), "")
	if to.name != "465" {
		ending(atHandshake(t, to, ""), authenticating(secret)...)
		c := dial(t, to.address, "")
		c.mustGreet(t)
		ending(c, append([]string{"EHLO x", "STARTTLS"}, authenticating(secret)...)...)
	}
	c := open(t, to, clientOptions{serverName: "b.example", trust: p.certificates})
	c.mailTo(t, secret, secret+"@a.example")
	c.must(t, 354, "DATA")
	c.mustSend(t, "Subject: "+secret+"\r\n\r\n"+secret)
	c.raw.SetLinger(0)
	c.close()
	return append(clients, c.local())
}

// requireNoSecret wants no line that tells of the secret.
func requireNoSecret(t *testing.T, what, text, secret string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if tells(line, secret) {
			t.Errorf("the %s tells of the secret %s: %s", what, secret, line)
		}
	}
}

// tells is true where a text has eight bytes of the secret's beginning, as they
// are, in base64 wherever they stand in that, or in hexadecimal.
func tells(text, secret string) bool {
	part := secret[:8]
	spellings := []string{part, hex.EncodeToString([]byte(part))}
	for shift, begins := range []int{0, 2, 3} { // the first digit that has no bit of what stands before
		encoded := base64.RawStdEncoding.EncodeToString([]byte("xx"[:shift] + part))
		spellings = append(spellings, encoded[begins:len(encoded)-1]) // nor of what stands behind
	}
	for _, spelling := range spellings {
		if strings.Contains(strings.ToLower(text), strings.ToLower(spelling)) {
			return true
		}
	}
	return false
}
