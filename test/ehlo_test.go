package test

import (
	"slices"
	"strings"
	"testing"
)

// crlf makes a reply of lines.
func crlf(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

// TestR65_R66_EHLOBeforeTLS: the proxy's own reply has STARTTLS, never in its
// first line, nothing that needs TLS, and one last line.
func TestR65_R66_EHLOBeforeTLS(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader, func(r *recorder) {
		r.ehlo = crlf("250-recorder.test", "250-AUTH PLAIN LOGIN", "250-REQUIRETLS", "250-XCLIENT ADDR", "250 XFORWARD ADDR")
	})
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address})
	c := dial(t, p.submission, "")
	c.mustGreet(t)
	for range 2 {
		lines := strings.Split(strings.TrimSuffix(c.must(t, 250, "EHLO client.test"), "\r\n"), "\r\n")
		if lines[0] != "250-mail.a.example" {
			t.Errorf("the first line is %q", lines[0])
		}
		for i, line := range lines {
			if last := i == len(lines)-1; (line[3] == ' ') != last {
				t.Errorf("line %d of %d is %q", i+1, len(lines), line)
			}
		}
		keywords := strings.ToUpper(strings.Join(lines[1:], "\n"))
		for _, secret := range []string{"AUTH", "REQUIRETLS", "XCLIENT", "XFORWARD"} {
			if strings.Contains(keywords, secret) {
				t.Errorf("%s is offered before TLS: %q", secret, lines)
			}
		}
		if strings.Count(keywords, "STARTTLS") != 1 {
			t.Errorf("STARTTLS is not offered once: %q", lines)
		}
	}
	if reply := c.must(t, 250, "HELO client.test"); strings.Contains(reply, "STARTTLS") || strings.Count(reply, "\n") != 1 {
		t.Errorf("the reply to HELO is %q", reply)
	}
}

// TestR66_PipelinedGroupBeforeTLS: one reply for each command, in their order,
// wherever the segments are cut.
func TestR66_PipelinedGroupBeforeTLS(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address})
	const group = "EHLO a.test\r\nnoop\r\nSTARTTLS x\r\nRSET\r\nMAIL FROM:<a@b>\r\nHELO b.test\r\nVRFY x\r\nQUIT\r\n"
	codes := []int{250, 250, 501, 250, 530, 250, 530, 221}
	for cut := 1; cut <= len(group); cut++ {
		c := dial(t, p.submission, "")
		c.mustGreet(t)
		c.mustSend(t, group[:cut])
		c.mustSend(t, group[cut:])
		for i, code := range codes {
			if _, err := c.expect(code); err != nil {
				t.Fatalf("cut at %d, command %d: %v", cut, i+1, err)
			}
		}
		if more := c.rest(t); more != "" {
			t.Fatalf("cut at %d: behind the last reply came %q", cut, more)
		}
	}
	c := dial(t, p.submission, "")
	c.wire = c.tapped(1, 0)
	c.use(c.wire)
	c.mustSend(t, group)
	for _, code := range append([]int{220}, codes...) {
		if _, err := c.expect(code); err != nil {
			t.Fatalf("byte by byte: %v", err)
		}
	}
}

// ehloReplies are what backends say, and what clients under TLS may see.
var ehloReplies = []struct{ name, said, seen string }{
	{
		"keywords are kept byte for byte",
		crlf("250-recorder.test greets you", "250-PIPELINING", "250-SIZE 104857600", "250-8BITMIME", "250-SMTPUTF8", "250-CHUNKING",
			"250-BINARYMIME", "250-DSN", "250-LIMITS RCPTMAX=20 MAILMAX=5", "250-DELIVERBY 240", "250-AUTH PLAIN  LOGIN XOAUTH2 ",
			"250-AUTH=PLAIN LOGIN", "250-REQUIRETLS", "250-ENHANCEDSTATUSCODES", "250-X-\xff\x00 \t", "250-vrfy", "250 HELP me"),
		crlf("250-recorder.test greets you", "250-PIPELINING", "250-SIZE 104857600", "250-8BITMIME", "250-SMTPUTF8", "250-CHUNKING",
			"250-BINARYMIME", "250-DSN", "250-LIMITS RCPTMAX=20 MAILMAX=5", "250-DELIVERBY 240", "250-AUTH PLAIN  LOGIN XOAUTH2 ",
			"250-AUTH=PLAIN LOGIN", "250-REQUIRETLS", "250-ENHANCEDSTATUSCODES", "250-X-\xff\x00 \t", "250-vrfy", "250 HELP me"),
	},
	{
		"STARTTLS, XCLIENT and XFORWARD go",
		crlf("250-recorder.test", "250-STARTTLS", "250-SIZE 1", "250-XCLIENT NAME ADDR", "250-xforward NAME", "250-8BITMIME", "250 StartTLS"),
		crlf("250-recorder.test", "250-SIZE 1", "250 8BITMIME"),
	},
	{
		"similar words stay",
		crlf("250-recorder.test", "250-STARTTLSX", "250-XSTARTTLS", "250-SIZE STARTTLS", "250-XCLIENTS", "250 STARTTLS"),
		crlf("250-recorder.test", "250-STARTTLSX", "250-XSTARTTLS", "250-SIZE STARTTLS", "250 XCLIENTS"),
	},
	{"STARTTLS alone", crlf("250-recorder.test", "250 STARTTLS"), crlf("250 recorder.test")},
	{"one line", crlf("250 recorder.test STARTTLS"), crlf("250 recorder.test STARTTLS")},
	{"a refusal", crlf("550 STARTTLS not for you"), crlf("550 STARTTLS not for you")},
	{"a long refusal", crlf("451-go away", "451-STARTTLS", "451 XCLIENT"), crlf("451-go away", "451-STARTTLS", "451 XCLIENT")},
	{
		"channel binding goes",
		crlf("250-recorder.test", "250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN", "250 SIZE"),
		crlf("250-recorder.test", "250-AUTH SCRAM-SHA-256 PLAIN", "250 SIZE"),
	},
}

// TestR10_R65_R67_EHLOUnderTLS compares what clients see on both ports, also
// in further replies and in replies that come in pieces of a pipeline.
func TestR10_R65_R67_EHLOUnderTLS(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	for _, test := range ehloReplies {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := startRecorder(t, withHeader, func(r *recorder) { r.ehlo = test.said })
			p := startProxy(t, setup{certificates: certs, backend: server.address})
			for _, port := range p.ports() {
				c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
				c.mustSend(t, "EHLO one.test\r\nNOOP\r\nehlo two.test\r\nHELO three.test\r\nQUIT\r\n")
				want := test.seen + "250 2.0.0 Ok\r\n" + test.seen + "250 2.0.0 Ok\r\n" + "221 2.0.0 Bye\r\n"
				if got := c.rest(t); got != want {
					t.Errorf("port %s: the client got\n%q, want\n%q", port.name, got, want)
				}
			}
		})
	}
}

// TestR9_SecondSTARTTLS: under TLS it is refused, never passed on, and no TLS
// begins within TLS; the session goes on. The backend offers it itself.
func TestR9_SecondSTARTTLS(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader, func(r *recorder) {
		r.ehlo = crlf("250-recorder.test", "250-STARTTLS", "250-PIPELINING", "250-XCLIENT NAME ADDR", "250 XFORWARD NAME")
	})
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	for _, port := range p.ports() {
		marker := newMarker()
		c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
		c.must(t, 250, "EHLO "+marker)
		for _, line := range []string{"STARTTLS", "starttls", " StartTLS", "STARTTLS now"} {
			if reply := c.must(t, 503, line); !strings.HasPrefix(reply, "503 5.5.1 ") {
				t.Errorf("port %s: the reply to %q is %q", port.name, line, reply)
			}
			c.must(t, 250, "NOOP")
		}
		c.must(t, 502, "XCLIENT ADDR=203.0.113.1")
		c.must(t, 502, "xforward ADDR=203.0.113.1")
		c.mustSend(t, "NOOP\r\nSTARTTLS\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\nQUIT\r\n")
		for _, code := range []int{250, 503, 250, 503, 221} {
			if _, err := c.expect(code); err != nil {
				c.fatal(t, err)
			}
		}
		got := strings.ToUpper(string(server.waitSession(t, marker).bytes()))
		for _, word := range []string{"STARTTLS", "XCLIENT", "XFORWARD"} {
			if slices.Contains(strings.Fields(got), word) {
				t.Errorf("port %s: the backend got %s: %q", port.name, word, got)
			}
		}
	}
}
