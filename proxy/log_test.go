package proxy_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// TestNoCredentialsInLog sends credentials and a message through, and looks
// for any part of them in all that is logged at level debug (R71, R87).
func TestNoCredentialsInLog(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		backend := newBackend(t, mailServer)
		srv := serve(t, listenerTo(t, mode, backend.address))
		c := srv.tlsClient(mode)
		if mode == proxy.ModeImplicitTLS {
			c.expect("220 ")
		}
		plain := base64.StdEncoding.EncodeToString([]byte("\x00alice\x00open sesame"))
		c.do("EHLO secret-client.example", "250-")
		c.do("AUTH PLAIN "+plain, "235 ")
		c.do("MAIL FROM:<sender@client.example>", "250 ")
		c.do("RCPT TO:<rcpt@backend.example>", "250 ")
		c.do("DATA", "354 ")
		c.do("Subject: confidential\r\n\r\n.", "250 ")
		c.do("QUIT", "221 ")
		c.end()
		srv.session("ok")
		contains(t, backend.only().transcript(), plain)
		for _, part := range []string{plain, plain[:8], "alice", "sesame", "PLAIN", "secret-client", "sender", "rcpt", "confidential"} {
			if strings.Contains(srv.log.text(), part) {
				t.Errorf("%q is in the log", part)
			}
		}
		if n := strings.Count(srv.log.text(), "\n"); n != 1 {
			t.Errorf("%d lines for one session", n)
		}
	})
}

// TestFieldsOfLog: the line has every field, and those that are not known yet
// are left out.
func TestFieldsOfLog(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serve(t, listenerTo(t, proxy.ModeSTARTTLS, backend.address))
	has := func(line map[string]any, fields string) {
		t.Helper()
		for _, field := range strings.Fields("time level msg " + fields) {
			if _, ok := line[field]; !ok {
				t.Errorf("no field %s in %v", field, line)
			}
			delete(line, field)
		}
		if len(line) > 0 {
			t.Errorf("fields too many: %v", line)
		}
	}
	c := srv.client("starttls")
	id := strings.Trim(strings.Fields(c.expect("220 "))[4], "()")
	c.do("QUIT", "221 ")
	c.end()
	line := srv.session("pretls")
	if line["id"] != id {
		t.Errorf("id %v in the log, %s in the greeting", line["id"], id)
	}
	has(line, "id listener client server_name outcome error messages bytes_to_backend bytes_to_client duration")

	c = srv.tlsClient(proxy.ModeSTARTTLS)
	c.do("QUIT", "221 ")
	c.end()
	has(srv.session("ok"), "id listener client server_name tls_version cipher backend outcome messages bytes_to_backend bytes_to_client duration")
}

// TestHealthChecksAreQuiet: to connect and close, or reset, is no error (R86).
func TestHealthChecksAreQuiet(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		backend := newBackend(t, mailServer)
		srv := serve(t, listenerTo(t, mode, backend.address))
		outcome := map[proxy.Mode]string{proxy.ModeImplicitTLS: "handshake_failed", proxy.ModeSTARTTLS: "pretls"}[mode]
		for _, linger := range []int{-1, 0} {
			c := srv.client(mode.String())
			must(t, c.conn.(interface{ SetLinger(int) error }).SetLinger(linger))
			must(t, c.conn.Close())
			if line := srv.session(outcome); line["level"] != "DEBUG" {
				t.Errorf("line %v", line)
			}
		}
		if n := backend.connections(); n != 0 {
			t.Errorf("%d backend connections", n)
		}
	})
}

// TestTextOfStrangersInLog: what a client or a backend says is escaped and cut
// (R84).
func TestTextOfStrangersInLog(t *testing.T) {
	backend := newBackend(t, greets("554 \x1b[31mred\xff"+strings.Repeat("x", 400)+"\r\n"))
	for _, name := range []string{
		"a\nlevel=error msg=\"x\"", "\x1b[2J\x1b[H.example", "\xff\xfe.example", "a\u202eb.example", strings.Repeat("a", 60000),
	} {
		srv := serve(t, listenerTo(t, proxy.ModeImplicitTLS, backend.address))
		c := srv.client("implicit")
		config := trusting(name)
		config.InsecureSkipVerify = true
		c.handshake(config)
		c.expect("554 ")
		c.end()
		line := srv.session("backend_refused")
		shown, reason := line["server_name"].(string), line["error"].(string)
		if strings.ContainsAny(shown+reason, "\n\x1b\u202e") || len(shown) > 4*255 || len(reason) > 4*255 {
			t.Errorf("line %q", line)
		}
		contains(t, reason, `backend's greeting: 554 \x1b[31mred\xff`)
		srv.counts(1, "sni_requests_total", "domain", "other")
	}
}
