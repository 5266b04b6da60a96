package probe_test

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/probe"
)

// says sends that and waits for the client to leave.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		io.WriteString(conn, text)
		io.Copy(io.Discard, conn)
	}
}

// answers sends that once the client has spoken.
func answers(text string) func(net.Conn) {
	return func(conn net.Conn) {
		conn.Read(make([]byte, 1000))
		says(text)(conn)
	}
}

func hangsUp(net.Conn) {}

// endless sends a line again and again.
func endless(first, line string) func(net.Conn) {
	return func(conn net.Conn) {
		_, err := io.WriteString(conn, first)
		for err == nil {
			_, err = io.WriteString(conn, line)
		}
	}
}

// short is the timeout where a server never answers.
const short = 300 * time.Millisecond

// TestFaults_Ports: what is no mail server, or not one for this mode.
func TestFaults_Ports(t *testing.T) {
	t.Parallel()
	implicit := mta{implicit: true, config: config(t)}
	for _, test := range []struct {
		name   string
		server func(net.Conn)
		mode   probe.Mode
		want   string
		text   string
	}{
		{"plain SMTP where TLS is wanted", mta{config: config(t)}.serve, probe.Implicit, "fail plain_smtp", "220 mail.example ESMTP"},
		{"plain 554 where TLS is wanted", says("554 go away\r\n"), probe.Implicit, "fail greeting_refuses", "554 go away"},
		{"TLS where SMTP is wanted", implicit.serve, probe.STARTTLS, "fail tls_port", "from the first byte"},
		{"HTTP where TLS is wanted", answers("HTTP/1.1 400 Bad Request\r\n\r\n"), probe.Implicit, "fail not_smtp", "speaks HTTP"},
		{"HTTP where SMTP is wanted", answers("HTTP/1.1 400 Bad Request\r\n\r\n"), probe.STARTTLS, "fail not_smtp", "speaks HTTP"},
		{"SSH", says("SSH-2.0-OpenSSH_9.2\r\n"), probe.STARTTLS, "fail not_smtp", "speaks SSH"},
		{"IMAP", says("* OK IMAP4rev1\r\n"), probe.STARTTLS, "fail not_smtp", "speaks IMAP"},
		{"POP3 where TLS is wanted", says("+OK ready\r\n"), probe.Implicit, "fail not_smtp", "speaks POP3"},
		{"IMAP under TLS", mta{implicit: true, config: config(t), greeting: "* OK IMAP4rev1\r\n"}.serve, probe.Implicit, "fail not_smtp", "speaks IMAP"},
		{"silence where SMTP is wanted", says(""), probe.STARTTLS, "fail greeting_missing", "no greeting within 300ms"},
		{"silence where TLS is wanted", says(""), probe.Implicit, "fail handshake", "no answer to the ClientHello within 300ms"},
		{"silence under TLS", mta{implicit: true, config: config(t), greeting: "220-"}.serve, probe.Implicit, "fail greeting_missing", "no greeting within 3s of the handshake"},
		{"hangs up where SMTP is wanted", hangsUp, probe.STARTTLS, "fail greeting_missing", "closed the connection without a greeting"},
		{"hangs up where TLS is wanted", hangsUp, probe.Implicit, "fail handshake", "closed the connection when the handshake began"},
		{"garbage where TLS is wanted", says("\x00\x1b[31mgarbage\r\n"), probe.Implicit, "fail not_smtp", `\x00\x1b[31mgarbage`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, listen(t, test.server), probe.Options{Mode: test.mode, Timeout: timeoutFor(test.text)})
			requireFindings(t, r, test.want)
			if len(r.Findings) > 0 && !strings.Contains(r.Findings[0].Text, test.text) {
				t.Errorf("no %q in %q", test.text, r.Findings[0].Text)
			}
			if r.Verdict != probe.Refused {
				t.Errorf("verdict %s", r.Verdict)
			}
		})
	}
}

// timeoutFor is short where the server is silent from the first byte on, and a
// little longer where it speaks when it is asked in the right way.
func timeoutFor(text string) time.Duration {
	switch {
	case text == "from the first byte", text == "speaks HTTP", strings.Contains(text, "3s"):
		return 3 * time.Second
	case strings.Contains(text, "300ms"):
		return short
	}
	return 0
}

// TestFaults_Dialogue: a mail server that does not do as it should.
func TestFaults_Dialogue(t *testing.T) {
	t.Parallel()
	c := config(t)
	for _, test := range []struct {
		name    string
		server  mta
		mode    probe.Mode
		want    []string
		text    string
		verdict string
	}{
		{"554 greeting", mta{greeting: "554 5.7.1 blocked\r\n"}, probe.STARTTLS, []string{"fail greeting_refuses"}, "554 5.7.1 blocked", probe.Refused},
		{"421 greeting", mta{greeting: "421 4.3.2 later\r\n"}, probe.STARTTLS, []string{"fail greeting_refuses"}, "421 4.3.2 later", probe.Refused},
		{"421 greeting under TLS", mta{greeting: "421 4.3.2 later\r\n"}, probe.Implicit, []string{"fail greeting_refuses"}, "421 4.3.2 later", probe.Refused},
		{"no STARTTLS", mta{plain: []string{"SIZE"}}, probe.STARTTLS, []string{"fail starttls_missing"}, "does not offer STARTTLS", probe.Refused},
		{"STARTTLS refused", mta{starttls: "454 4.7.0 TLS not available\r\n"}, probe.STARTTLS, []string{"fail starttls_refused"}, "454 4.7.0", probe.Refused},
		{"plain text after STARTTLS", mta{starttls: "220 go\r\n220 more\r\n"}, probe.STARTTLS, []string{"fail reply"}, "more bytes behind it", probe.Refused},
		{"EHLO refused under TLS", mta{ehlo: "502 no\r\n"}, probe.Implicit, []string{"fail ehlo_refused"}, "502 no", probe.Refused},
		{"STARTTLS twice", mta{plain: []string{"STARTTLS"}, secure: []string{"STARTTLS", "AUTH PLAIN"}}, probe.STARTTLS, []string{"warn starttls_twice"}, "RFC 3207", probe.Warned},
		{"STARTTLS offered with implicit TLS", mta{secure: []string{"STARTTLS"}}, probe.Implicit, []string{"warn starttls_twice"}, "RFC 3207", probe.Warned},
		{"AUTH before TLS", mta{plain: []string{"STARTTLS", "AUTH PLAIN"}}, probe.STARTTLS, []string{"warn auth_before_tls"}, "plain text", probe.Warned},
		{"old AUTH before TLS", mta{plain: []string{"STARTTLS", "AUTH=LOGIN"}}, probe.STARTTLS, []string{"warn auth_before_tls"}, "plain text", probe.Warned},
		{"SCRAM-PLUS", mta{plain: []string{"STARTTLS"}, secure: []string{"AUTH PLAIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS"}}, probe.STARTTLS, []string{"warn scram_plus"}, "SCRAM-SHA-256-PLUS is offered", probe.Warned},
		{"XCLIENT", mta{plain: []string{"STARTTLS"}, secure: []string{"XCLIENT NAME ADDR"}}, probe.STARTTLS, []string{"warn xclient"}, "XCLIENT is offered", probe.Warned},
		{"keyword lost", mta{plain: []string{"STARTTLS", "DSN"}, secure: []string{"SIZE"}}, probe.STARTTLS, []string{"note keyword_lost"}, "DSN", probe.Accepted},
		{"keyword won", mta{secure: []string{"PIPELINING", "SIZE", "REQUIRETLS"}}, probe.STARTTLS, nil, "", probe.Accepted},
		{"another name in the greeting", mta{greeting: "220 other.example ESMTP\r\n"}, probe.STARTTLS, []string{"note greeting_name"}, "other.example", probe.Accepted},
		{"hostile text", mta{greeting: "220 a\x1b]0;pwned\x07\u202e\xff ok\r\n"}, probe.STARTTLS, nil, "", probe.Accepted},
		{"no reply to QUIT", mta{quit: "\r\n"}, probe.STARTTLS, nil, "", probe.Accepted},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.server.config, test.server.implicit = c, test.mode == probe.Implicit
			r := run(t, listen(t, test.server.serve), probe.Options{Mode: test.mode})
			requireFindings(t, r, test.want...)
			if r.Verdict != test.verdict {
				t.Errorf("verdict %s, want %s", r.Verdict, test.verdict)
			}
			if len(r.Findings) > 0 && !strings.Contains(r.Findings[0].Text, test.text) {
				t.Errorf("no %q in %q", test.text, r.Findings[0].Text)
			}
			requireClean(t, r)
		})
	}
}

// requireClean wants no byte of the server's in the texts that does something to
// a terminal.
func requireClean(t testing.TB, r *probe.Report) {
	t.Helper()
	if all := texts(r); strings.ContainsAny(all, "\x1b\x07\u202e\x00") || strings.Contains(all, "\xff") {
		t.Errorf("text of the server's passes as it is: %q", all)
	}
}

// TestFaults_Endless: replies without end are cut, and so are those that come a
// byte at a time.
func TestFaults_Endless(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	for _, test := range []struct {
		name   string
		server func(net.Conn)
		want   string
		text   string
	}{
		{"greeting of one long line", says("220 " + long + "\r\n"), "fail greeting_malformed", "longer than 8192 bytes"},
		{"greeting without end", endless("220-a\r\n", "220-b\r\n"), "fail greeting_malformed", "longer than 8192 bytes"},
		{"greeting with two codes", says("220-a\r\n250 b\r\n"), "fail greeting_malformed", "different codes"},
		{"EHLO of one long line", mta{implicit: true, config: config(t), ehlo: "250-a\r\n250 " + long + "\r\n"}.serve, "fail reply", "longer than 65536 bytes"},
		{"EHLO without end", mta{implicit: true, config: config(t), ehlo: "250-a\r\n" + strings.Repeat("250-KEYWORD\r\n", 10_000)}.serve, "fail reply", "longer than 65536 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			mode := probe.STARTTLS
			if strings.HasPrefix(test.name, "EHLO") {
				mode = probe.Implicit
			}
			r := run(t, listen(t, test.server), probe.Options{Mode: mode})
			requireFindings(t, r, test.want)
			for _, f := range r.Findings {
				if !strings.Contains(f.Text, test.text) || len(f.Text) > 1000 {
					t.Errorf("text of %d bytes: %.300q, want %q", len(f.Text), f.Text, test.text)
				}
			}
		})
	}
	t.Run("many keywords", func(t *testing.T) {
		t.Parallel()
		r := run(t, listen(t, mta{implicit: true, config: config(t), secure: strings.Split(strings.Repeat("KEYWORD,", 3000)+"LAST", ",")}.serve), probe.Options{Mode: probe.Implicit})
		requireFindings(t, r)
		if n := len(r.Sessions[0].EHLOSecure.Lines); n != 100 {
			t.Errorf("%d lines are kept", n)
		}
	})
}

// TestFaults_Slow: each step has one deadline, however often a byte comes. The
// server sends until the client is gone.
func TestFaults_Slow(t *testing.T) {
	t.Parallel()
	r := run(t, listen(t, func(conn net.Conn) {
		for _, err := io.WriteString(conn, "220-"); err == nil; _, err = io.WriteString(conn, "x") {
			time.Sleep(20 * time.Millisecond)
		}
	}), probe.Options{Timeout: short})
	requireFindings(t, r, "fail greeting_missing")
}

// TestGreeting_Slow has a clock that makes six seconds with each look.
func TestGreeting_Slow(t *testing.T) {
	t.Parallel()
	at := now
	r := run(t, listen(t, mta{config: config(t)}.serve), probe.Options{Now: func() time.Time { at = at.Add(6 * time.Second); return at }})
	requireFindings(t, r, "warn greeting_slow")
}

// TestHandshake_Faults: what a server refuses, and what a client would.
func TestHandshake_Faults(t *testing.T) {
	t.Parallel()
	with := func(set func(*tls.Config)) *tls.Config {
		c := config(t)
		set(c)
		return c
	}
	rsa := issue(t, server("mail.example"), newTree(t).intermediate, rsaKey(t, 2048))
	weak := config(t, rsa, newTree(t).intermediate)
	weak.MaxVersion, weak.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
	for _, test := range []struct {
		name   string
		config *tls.Config
		alpn   []string
		want   string
	}{
		{"unknown server name", with(func(c *tls.Config) {
			c.Certificates = nil
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
		}), nil, "fail alert_server_name"},
		{"ALPN", with(func(c *tls.Config) { c.NextProtos = []string{"smtp"} }), []string{"h2"}, "fail alert_alpn"},
		{"client certificate", with(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }), nil, "fail alert_client_certificate"},
		{"client certificate in TLS 1.2", with(func(c *tls.Config) {
			c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
		}), nil, "fail alert_client_certificate"},
		{"no suite", with(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
		}), nil, "fail alert_handshake"},
		{"internal error", with(func(c *tls.Config) {
			c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, io.ErrShortBuffer }
		}), nil, "fail alert_internal"},
		{"old version", with(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), nil, "fail version_old"},
		{"weak suite", weak, nil, "warn cipher_weak"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, mode := range []probe.Mode{probe.Implicit, probe.STARTTLS} {
				r := run(t, listen(t, mta{implicit: mode == probe.Implicit, config: test.config}.serve), probe.Options{Mode: mode, ALPN: test.alpn})
				requireFindings(t, r, test.want)
			}
		})
	}
}
