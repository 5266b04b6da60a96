package proxy_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// serveTraced serves a listener whose backend gets trace headers.
func serveTraced(t *testing.T, mode proxy.Mode, backend *fakeBackend) *server {
	t.Helper()
	l := listenerTo(t, mode, backend.address)
	l.Backend.TraceHeader = true
	if mode == proxy.ModeSTARTTLS {
		optional(&l)
	}
	return serve(t, l)
}

// headers are what a backend got as Received headers, unfolded.
func (p *peer) headers() []string {
	var headers []string
	for line := range strings.SplitSeq(p.transcript(), "\n") {
		text, ok := strings.CutPrefix(line, "recv: ")
		switch text = strings.TrimSuffix(text, "\r"); {
		case ok && strings.HasPrefix(text, "Received:"):
			headers = append(headers, text)
		case ok && strings.HasPrefix(text, "\t"):
			headers[len(headers)-1] += " " + text[1:]
		}
	}
	return headers
}

// TestTraceHeader: each message gets one header, which tells of TLS and AUTH
// as they are.
func TestTraceHeader(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		backend := newBackend(t, mailServer)
		srv := serveTraced(t, mode, backend)
		c := srv.tlsClient(mode)
		if mode == proxy.ModeImplicitTLS {
			c.expect("220 ")
		}
		c.do("EHLO client.example", "250-")
		c.message()
		c.message()
		c.do("AUTH PLAIN AGEAYg==", "235 ")
		c.message()
		c.do("QUIT", "221 ")
		c.end()
		line := srv.session("ok")
		cipher := line["cipher"].(string)
		headers := backend.only().headers()
		if len(headers) != 3 {
			t.Fatalf("headers %q", headers)
		}
		for i, protocol := range []string{"ESMTPS", "ESMTPS", "ESMTPSA"} {
			want := "Received: from client.example ([127.0.0.1]) (using TLSv1.3 with cipher " + cipher +
				" for server name a.example) by proxy.example with " + protocol + " id " + line["id"].(string) + "; "
			if !strings.HasPrefix(headers[i], want) {
				t.Errorf("header %q, want %q", headers[i], want)
			}
		}
	})
}

// TestTraceHeaderInPlainText claims no TLS, and one of the relay under TLS
// that follows does.
func TestTraceHeaderInPlainText(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serveTraced(t, proxy.ModeSTARTTLS, backend)
	c := srv.client("starttls")
	c.plainMail()
	c.do("STARTTLS", "220 ")
	c.handshake(&tls.Config{ServerName: "../etc", InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	sendMessage(c)
	id := srv.session("ok")["id"].(string)
	for i, want := range []string{
		"Received: from plain.example ([127.0.0.1]) by proxy.example with ESMTP id " + id + "; ",
		"Received: from client.example ([127.0.0.1]) (using TLSv1.2 with cipher ECDHE-ECDSA-AES128-GCM-SHA256) by proxy.example with ESMTPS id " + id + "; ",
	} {
		if headers := backend.peers[i].headers(); len(headers) != 1 || !strings.HasPrefix(headers[0], want) {
			t.Errorf("headers %q, want one that begins %q", headers, want)
		}
	}
}

// TestNoTraceHeader: without the option nothing is added.
func TestNoTraceHeader(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serveOptional(t, backend)
	c := srv.client("starttls")
	c.plainMail()
	c.do("QUIT", "221 ")
	c.end()
	srv.session("ok")
	if headers := backend.only().headers(); len(headers) > 0 {
		t.Errorf("headers %q", headers)
	}
}
