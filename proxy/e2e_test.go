package proxy_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

var versions = map[string]uint16{"TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}

// TestEndToEnd goes through each server name, mode and version: the right
// certificate, the facts in the PROXY header, the greeting, and a message.
func TestEndToEnd(t *testing.T) {
	names := []struct {
		sni       string // as the client sends it
		folder    string // whose certificate it gets
		authority string // what the backend is told
		domain    string // label of sni_requests_total
	}{
		{"a.example", "a.example", "a.example", "a.example"},
		{"A.Example", "a.example", "a.example", "a.example"},
		{"x.wild.example", "*.wild.example", "x.wild.example", "other"},
		{"unknown.example", "mail.example", "unknown.example", "other"},
		{"../etc", "mail.example", "", "other"},
		{"", "mail.example", "", "none"},
	}
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		for version, number := range versions {
			for _, name := range names {
				t.Run(version+"/"+name.sni, func(t *testing.T) {
					backend := newBackend(t, mailServer)
					srv := serve(t, listenerTo(t, mode, backend.address))
					c := srv.client(mode.String())
					config := &tls.Config{
						ServerName: name.sni, InsecureSkipVerify: true, // the name is checked below
						MinVersion: number, MaxVersion: number, NextProtos: []string{"smtp"},
					}
					if mode == proxy.ModeSTARTTLS {
						c.startTLS(config)
						// Nothing is said after the handshake before the client's
						// command (R4); its reply is the first thing that comes.
					} else {
						c.handshake(config)
						c.expect("220 backend.example ESMTP")
					}
					if got := c.state().PeerCertificates[0].DNSNames[0]; got != name.folder {
						t.Errorf("the certificate is that of %s, want %s", got, name.folder)
					}
					sendMessage(c)
					checkHeader(t, srv, c, backend.only(), version, name.authority)
					srv.counts(1, "sni_requests_total", "domain", name.domain)
				})
			}
		}
	})
}

// sendMessage does what a mail client does behind the greeting.
func sendMessage(c *client) {
	ehlo := c.do("EHLO client.example", "250-backend.example\r\n")
	if strings.Contains(ehlo, "STARTTLS") || strings.Contains(ehlo, "XCLIENT") || strings.Contains(ehlo, "PLUS") {
		c.fatalf("the reply to EHLO offers too much") // R10
	}
	c.do("MAIL FROM:<a@client.example>", "250 ")
	c.do("RCPT TO:<b@backend.example>", "250 ")
	c.do("DATA", "354 ")
	c.do("Subject: x\r\n\r\nSTARTTLS\r\n.", "250 2.0.0 queued")
	c.do("STARTTLS", "503 ") // R9
	c.do("QUIT", "221 ")
	c.end()
}

// checkHeader compares what the backend and the log were told.
func checkHeader(t *testing.T, srv *server, c *client, p *peer, version, authority string) {
	t.Helper()
	line := srv.session("ok")
	if got := p.header.SourceAddr.String(); got != c.conn.LocalAddr().String() {
		t.Errorf("source address %s, want %s", got, c.conn.LocalAddr())
	}
	if got := p.header.DestinationAddr.String(); got != c.conn.RemoteAddr().String() {
		t.Errorf("destination address %s, want %s", got, c.conn.RemoteAddr())
	}
	if got := p.tlv(proxyproto.PP2_TYPE_AUTHORITY); got != authority {
		t.Errorf("AUTHORITY %q, want %q", got, authority)
	}
	if got := p.tlv(proxyproto.PP2_TYPE_UNIQUE_ID); got == "" || got != line["id"] { // R87
		t.Errorf("UNIQUE_ID %q, and the log's id is %q", got, line["id"])
	}
	tlvs, err := p.header.TLVs()
	must(t, err)
	ssl, ok := tlvparse.FindSSL(tlvs)
	if got, _ := ssl.SSLVersion(); !ok || !ssl.ClientSSL() || got != version {
		t.Errorf("SSL TLV %+v, version %q, want %q", ssl, got, version)
	}
	if line["tls_version"] != version || line["messages"] != 1.0 || line["client"] != c.conn.LocalAddr().String() {
		t.Errorf("log line %v", line)
	}
	srv.counts(1, "messages_total", "tls", "true")
	srv.counts(1, "sessions_total", "backend", "mta", "outcome", "ok")
	srv.counts(line["bytes_to_client"].(float64), "bytes_total", "direction", "to_client")
	srv.counts(line["bytes_to_backend"].(float64), "bytes_total", "direction", "to_backend")
}

// TestNoResumption: with tickets off a session of one name can not be resumed
// under another (R34).
func TestNoResumption(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serve(t, listenerTo(t, proxy.ModeImplicitTLS, backend.address))
	for _, number := range versions {
		config := trusting("a.example")
		config.MaxVersion = number
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for range 2 {
			c := srv.client("implicit")
			c.handshake(config)
			c.expect("220 ")
			if c.state().DidResume {
				t.Error("a session was resumed")
			}
			c.do("QUIT", "221 ")
			c.end()
		}
	}
}

// TestVersion1 sends the header as text; it has no TLVs.
func TestVersion1(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		backend := newBackend(t, mailServer)
		l := listenerTo(t, mode, backend.address)
		l.Backend.ClientInfo = proxy.ProxyV1
		srv := serve(t, l)
		c := srv.tlsClient(mode)
		if mode == proxy.ModeImplicitTLS {
			c.expect("220 ")
		}
		c.do("QUIT", "221 ")
		c.end()
		if p := backend.only(); p.header.Version != 1 || p.header.SourceAddr.String() != c.conn.LocalAddr().String() {
			t.Errorf("header %+v", p.header)
		}
	})
}

// TestBackendSeesNothingBeforeTLS is R6 and R78.
func TestBackendSeesNothingBeforeTLS(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serve(t, listenerTo(t, proxy.ModeSTARTTLS, backend.address))
	c := srv.client("starttls")
	c.expect("220 proxy.example ")
	c.do("EHLO attacker.example", "250-")
	c.do("AUTH PLAIN AGEAYg==", "530 ")
	c.do("MAIL FROM:<a@client.example>", "530 ")
	c.do("STARTTLS", "220 ")
	if n := backend.connections(); n != 0 {
		t.Errorf("%d backend connections before the handshake", n)
	}
	c.handshake(trusting("a.example"))
	c.do("NOOP", "250 2.0.0 ok NOOP")
	c.do("QUIT", "221 ")
	c.end()
	p := backend.only()
	if said := p.transcript(); strings.Contains(said, "attacker") || strings.Contains(said, "AUTH") {
		t.Errorf("the backend saw commands from before TLS:\n%s", said)
	}
	srv.counts(1, "starttls_total", "outcome", "upgraded")
}

// TestInjection: a command behind STARTTLS in its segment ends the session (R1).
func TestInjection(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serve(t, listenerTo(t, proxy.ModeSTARTTLS, backend.address))
	c := srv.client("starttls")
	c.expect("220 ")
	c.send("STARTTLS", "EHLO injected.example")
	c.expect("503 5.5.1 ")
	c.end()
	srv.session("refused")
	srv.counts(1, "starttls_total", "outcome", "injection")
	if n := backend.connections(); n != 0 {
		t.Errorf("%d backend connections", n)
	}
}
