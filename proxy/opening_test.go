package proxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// readAhead is a connection of which some bytes were read into r.
type readAhead struct {
	net.Conn
	r io.Reader
}

func (c readAhead) Read(p []byte) (int, error) { return c.r.Read(p) }

// secure puts the backend's end under TLS.
func (p *peer) secure(cert tls.Certificate, config *tls.Config) bool {
	config.Certificates = []tls.Certificate{cert}
	conn := tls.Server(readAhead{p.conn, p.r}, config)
	if err := conn.Handshake(); err != nil {
		p.note("recv", "handshake: "+err.Error())
		return false
	}
	p.conn, p.r = conn, bufio.NewReader(conn)
	p.note("recv", "handshake")
	return true
}

// certificateFor is a pair of the tests' authority, or of another one.
func certificateFor(t *testing.T, ca *devcert.CA, name string) tls.Certificate {
	t.Helper()
	certPEM, keyPEM, err := ca.Issue(devcert.Leaf{Names: []string{name}})
	must(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	must(t, err)
	return pair
}

func authorities(t *testing.T, ca *devcert.CA) *tlsopts.Authorities {
	t.Helper()
	a, err := tlsopts.ParseAuthorities(ca.PEM())
	must(t, err)
	return a
}

func pinOf(t *testing.T, pair tls.Certificate) tlsopts.Pin {
	t.Helper()
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	must(t, err)
	return tlsopts.PinOf(leaf)
}

// TestBackendTLS: a session goes to its backend under TLS, implicit or by
// STARTTLS, in both modes of the listener; the PROXY header comes before that.
func TestBackendTLS(t *testing.T) {
	ca := certificates().ca
	pair := certificateFor(t, ca, "mta.internal")
	for _, mode := range []proxy.BackendTLSMode{proxy.BackendImplicit, proxy.BackendSTARTTLS} {
		t.Run(string(mode), func(t *testing.T) {
			bothModes(t, func(t *testing.T, front proxy.Mode) {
				for _, info := range []proxy.ClientInfo{proxy.ProxyV2, proxy.ProxyV1, proxy.NoClientInfo} {
					backend := newBackend(t, secured(mode, pair))
					backend.bare.Store(info == proxy.NoClientInfo)
					l := listenerTo(t, front, backend.address)
					l.Backend.ClientInfo = info
					l.Backend.TLS = proxy.BackendTLS{Mode: mode, Auth: tlsopts.ServerAuth{ServerName: "mta.internal", CA: authorities(t, ca)}}
					must(t, proxy.CheckBackend(t.Context(), l.Backend))
					srv := serve(t, l)
					c := srv.tlsClient(front)
					if front == proxy.ModeImplicitTLS {
						c.expect("220 backend.example")
					}
					if reply := c.do("EHLO client.example", "250-"); strings.Contains(reply, "STARTTLS") {
						t.Errorf("the client is offered %q", reply)
					}
					c.do("MAIL FROM:<a@client.example>", "250 ")
					c.do("RCPT TO:<b@a.example>", "250 ")
					c.do("DATA", "354 ")
					c.do("text\r\n.", "250 ")
					c.do("QUIT", "221 ")
					c.end()
					if line := srv.session("ok"); line["messages"] != 1.0 {
						t.Errorf("line %v", line)
					}
					if n := backend.connections(); n != 2 {
						t.Errorf("%d connections, want the probe's and the session's", n)
					}
				}
			})
		})
	}
}

// secured is a mailServer that takes no command before TLS.
func secured(mode proxy.BackendTLSMode, pair tls.Certificate) func(*peer) {
	return func(p *peer) {
		if mode == proxy.BackendSTARTTLS {
			p.send("220 backend.example ESMTP")
			p.line()
			p.send("250-backend.example", "250 STARTTLS")
			if line := p.line(); line != "STARTTLS\r\n" {
				p.send("530 STARTTLS first")
				return
			}
			p.send("220 go")
		}
		if !p.secure(pair, &tls.Config{}) {
			return
		}
		if mode == proxy.BackendImplicit {
			p.send("220 backend.example ESMTP")
		}
		for p.command() {
		}
	}
}

// TestR13_BackendTLS_FailsClosed: what is not the backend that was meant, or
// not TLS, gets no client and no mail.
func TestR13_BackendTLS_FailsClosed(t *testing.T) {
	ca := certificates().ca
	other, err := devcert.NewCA("other")
	must(t, err)
	pair, foreign := certificateFor(t, ca, "mta.internal"), certificateFor(t, other, "mta.internal")
	offers := []string{"250-backend.example", "250 STARTTLS"}
	for name, test := range map[string]struct {
		mode   proxy.BackendTLSMode
		script func(*peer)
		adapt  func(*tlsopts.ServerAuth)
		reason string
		want   string
	}{
		"another authority":              {proxy.BackendImplicit, secured(proxy.BackendImplicit, foreign), nil, "tls", "certificate signed by unknown authority"},
		"another name":                   {proxy.BackendImplicit, secured(proxy.BackendImplicit, pair), func(a *tlsopts.ServerAuth) { a.ServerName = "other.internal" }, "tls", "other.internal"},
		"another key":                    {proxy.BackendSTARTTLS, secured(proxy.BackendSTARTTLS, pair), func(a *tlsopts.ServerAuth) { a.Pins = []tlsopts.Pin{{1}} }, "tls", "none of those pinned"},
		"another authority, by STARTTLS": {proxy.BackendSTARTTLS, secured(proxy.BackendSTARTTLS, foreign), nil, "tls", "certificate signed by unknown authority"},
		"plain text in place of TLS":     {proxy.BackendImplicit, mailServer, nil, "tls", "TLS to the backend: "},
		"STARTTLS is not offered": {proxy.BackendSTARTTLS, func(p *peer) {
			p.send("220 x")
			p.line()
			p.send("250 backend.example")
			p.line()
		}, nil, "tls", "STARTTLS: backend does not offer it"},
		"STARTTLS is refused": {proxy.BackendSTARTTLS, func(p *peer) {
			p.send("220 x")
			p.line()
			p.send(offers...)
			p.line()
			p.send("454 4.7.0 not now")
			p.line()
		}, nil, "tls", "STARTTLS: backend refuses"},
		"a reply injected behind 220": {proxy.BackendSTARTTLS, func(p *peer) {
			p.send("220 x")
			p.line()
			p.send(offers...)
			p.line()
			p.send("220 go", "250 injected")
			p.secure(pair, &tls.Config{})
		}, nil, "tls", "more bytes behind it"},
		"an old version": {proxy.BackendImplicit, func(p *peer) { p.secure(pair, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}) }, nil, "tls", "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, front proxy.Mode) {
				backend := newBackend(t, test.script)
				l := listenerTo(t, front, backend.address)
				auth := tlsopts.ServerAuth{ServerName: "mta.internal", CA: authorities(t, ca)}
				if test.adapt != nil {
					test.adapt(&auth)
				}
				l.Backend.TLS = proxy.BackendTLS{Mode: test.mode, Auth: auth}
				if err := proxy.CheckBackend(t.Context(), l.Backend); err == nil {
					t.Error("the check finds nothing")
				} else {
					contains(t, err.Error(), test.want)
				}
				srv := serve(t, l)
				c := srv.tlsClient(front)
				if front == proxy.ModeSTARTTLS {
					c.send("EHLO client.example")
				}
				c.expect("421 4.3.2 ")
				c.end()
				line := srv.session("backend_unavailable")
				contains(t, fmt.Sprint(line["error"]), test.want)
				srv.counts(1, "backend_errors_total", "reason", test.reason)
				for _, p := range backend.peers {
					if said := p.transcript(); strings.Contains(said, "client.example") {
						t.Errorf("the backend heard the client:\n%s", said)
					}
				}
			})
		})
	}
}

// TestBackendTLS_GODEBUG: what the environment allows of Go is not allowed here.
func TestBackendTLS_GODEBUG(t *testing.T) {
	t.Setenv("GODEBUG", "tlsrsakex=1,tls10server=1")
	ca := certificates().ca
	certPEM, keyPEM, err := ca.Issue(devcert.Leaf{Names: []string{"mta.internal"}, Key: devcert.RSA2048})
	must(t, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	must(t, err)
	for want, suite := range map[string]uint16{"": tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "handshake failure": tls.TLS_RSA_WITH_AES_128_GCM_SHA256} {
		backend := newBackend(t, func(p *peer) {
			if p.secure(pair, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}) {
				mailServer(p)
			}
		})
		settings := listenerTo(t, proxy.ModeImplicitTLS, backend.address).Backend
		settings.TLS = proxy.BackendTLS{Mode: proxy.BackendImplicit, Auth: tlsopts.ServerAuth{ServerName: "mta.internal", CA: authorities(t, ca)}}
		switch err := proxy.CheckBackend(t.Context(), settings); {
		case want == "":
			must(t, err)
		case err == nil:
			t.Error("a key exchange without forward secrecy is taken")
		default:
			contains(t, err.Error(), want)
		}
	}
}

// TestBackendTLS_Certificate: a backend that asks for our certificate gets it,
// and a pin alone is enough for a self-signed one of its own.
func TestBackendTLS_Certificate(t *testing.T) {
	ca := certificates().ca
	pair, ours := certificateFor(t, ca, "mta.internal"), certificateFor(t, ca, "proxy.internal")
	backend := newBackend(t, func(p *peer) {
		if p.secure(pair, &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}) {
			mailServer(p)
		}
	})
	settings := listenerTo(t, proxy.ModeImplicitTLS, backend.address).Backend
	settings.TLS = proxy.BackendTLS{Mode: proxy.BackendImplicit, Auth: tlsopts.ServerAuth{Pins: []tlsopts.Pin{pinOf(t, pair)}}}
	if err := proxy.CheckBackend(t.Context(), settings); err == nil {
		t.Error("a backend that wants a certificate takes the proxy without one")
	}
	settings.TLS.Certificate = &ours
	must(t, proxy.CheckBackend(t.Context(), settings))
}

// TestBackendTLS_Reload: a pool stays as long as the settings say the same, and
// goes with another authority.
func TestBackendTLS_Reload(t *testing.T) {
	ca := certificates().ca
	other, err := devcert.NewCA("other")
	must(t, err)
	pair := certificateFor(t, ca, "mta.internal")
	backend := newBackend(t, secured(proxy.BackendImplicit, pair))
	listener := func(ca *devcert.CA) proxy.Listener {
		l := listenerTo(t, proxy.ModeImplicitTLS, backend.address)
		l.Address = "127.0.0.1:0"
		l.Backend.TLS = proxy.BackendTLS{Mode: proxy.BackendImplicit, Auth: tlsopts.ServerAuth{ServerName: "mta.internal", CA: authorities(t, ca)}}
		return l
	}
	srv := serve(t, listener(ca))
	open := srv.tlsClient(proxy.ModeImplicitTLS)
	open.expect("220 ")
	wantOpen := func(want int) {
		t.Helper()
		if got := srv.Backends()[0].Addresses[0].Open; got != want {
			t.Errorf("the pool has %d connections open, want %d", got, want)
		}
	}
	must(t, srv.Reload([]proxy.Listener{listener(ca)}))
	wantOpen(1)
	must(t, srv.Reload([]proxy.Listener{listener(other)}))
	wantOpen(0) // of the new pool
	srv.tlsClient(proxy.ModeImplicitTLS).expect("421 4.3.2 ")
	srv.session("backend_unavailable")
	open.do("QUIT", "221 ")
	srv.session("ok")
}

// xclientServer is a mailServer behind XCLIENT, whose EHLO replies have the
// given line.
func xclientServer(offer, answer string) func(*peer) {
	return func(p *peer) {
		p.send("220 for the proxy")
		p.expect("EHLO ")
		p.send("250-backend.example", "250 "+offer)
		if !strings.HasPrefix(p.line(), "XCLIENT ") {
			return
		}
		p.send(answer)
		for p.command() {
		}
	}
}

// TestR50_XCLIENT: the backend learns the client's address before its first
// command, and the client sees what the backend greets it with.
func TestR50_XCLIENT(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		backend := newBackend(t, xclientServer("XCLIENT NAME ADDR PORT DESTADDR DESTPORT LOGIN HELO PROTO", "220 for the client"))
		backend.bare.Store(true)
		l := listenerTo(t, mode, backend.address)
		l.Backend.ClientInfo = proxy.XCLIENT
		srv := serve(t, l)
		c := srv.tlsClient(mode)
		if mode == proxy.ModeImplicitTLS {
			c.expect("220 for the client")
		}
		c.do("EHLO client.example", "250-")
		c.do("MAIL FROM:<a@client.example>", "250 ")
		c.do("XCLIENT ADDR=127.0.0.1", "502 5.5.1 ")
		c.do("QUIT", "221 ")
		c.end()
		srv.session("ok")
		client, local := c.conn.LocalAddr().String(), c.conn.RemoteAddr().String()
		_, port, _ := strings.Cut(client, ":")
		_, localPort, _ := strings.Cut(local, ":")
		contains(t, backend.only().transcript(),
			"recv: XCLIENT NAME=", " PORT="+port+" DESTADDR=127.0.0.1 DESTPORT="+localPort+" ADDR=127.0.0.1\r\n", "recv: EHLO client.example")
		if said := backend.only().transcript(); strings.Count(said, "recv: XCLIENT") != 1 || strings.Contains(said, "LOGIN=") {
			t.Errorf("the backend heard:\n%s", said)
		}
	})
}

// TestXCLIENT_InPlainText: the client's EHLO is said again behind XCLIENT, and
// stands in it.
func TestXCLIENT_InPlainText(t *testing.T) {
	backend := newBackend(t, xclientServer("XCLIENT ADDR HELO PROTO", "220 for the client"))
	backend.bare.Store(true)
	l := listenerTo(t, proxy.ModeSTARTTLS, backend.address)
	optional(&l)
	l.Backend.ClientInfo = proxy.XCLIENT
	srv := serve(t, l)
	c := srv.client("starttls")
	c.expect("220 ")
	c.do("EHLO client.example", "250-")
	c.do("MAIL FROM:<a@client.example>", "250 ")
	c.do("QUIT", "221 ")
	c.end()
	srv.session("ok")
	contains(t, backend.only().transcript(), "recv: XCLIENT PROTO=ESMTP HELO=client.example ADDR=127.0.0.1\r\n", "recv: EHLO client.example\r\n", "recv: MAIL FROM:<a@client.example>")
}

// TestR50_XCLIENT_FailsClosed: a backend that does not learn who the client is
// gets none.
func TestR50_XCLIENT_FailsClosed(t *testing.T) {
	for name, test := range map[string]struct {
		offer, answer string
		session       string
		reply         string
		checkFails    bool
	}{
		"not offered":           {"SIZE", "", "backend_unavailable", "421 4.3.2 ", true},
		"no ADDR":               {"XCLIENT NAME LOGIN", "", "backend_unavailable", "421 4.3.2 ", true},
		"not authorized":        {"XCLIENT ADDR", "550 5.7.0 insufficient authorization", "backend_unavailable", "421 4.3.2 ", false},
		"the client is refused": {"XCLIENT ADDR", "554 5.7.1 you are blocked", "backend_refused", "554 5.7.1 you are blocked", false},
		"a reply that is none":  {"XCLIENT ADDR", "what", "backend_unavailable", "421 4.3.2 ", false},
	} {
		t.Run(name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, mode proxy.Mode) {
				backend := newBackend(t, xclientServer(test.offer, test.answer))
				backend.bare.Store(true)
				l := listenerTo(t, mode, backend.address)
				l.Backend.ClientInfo = proxy.XCLIENT
				if err := proxy.CheckBackend(t.Context(), l.Backend); (err != nil) != test.checkFails {
					t.Errorf("the check says %v", err)
				}
				srv := serve(t, l)
				c := srv.tlsClient(mode)
				if mode == proxy.ModeSTARTTLS {
					c.send("EHLO client.example")
				}
				c.expect(test.reply)
				c.end()
				srv.session(test.session)
				if test.session == "backend_unavailable" {
					srv.counts(1, "backend_errors_total", "reason", "xclient")
				}
				for _, p := range backend.peers {
					if said := p.transcript(); strings.Contains(said, "client.example") {
						t.Errorf("the backend heard the client:\n%s", said)
					}
				}
			})
		})
	}
}

// TestNoClientInfo: the first that such a backend gets is the client's.
func TestNoClientInfo(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		backend := newBackend(t, mailServer)
		backend.bare.Store(true)
		l := listenerTo(t, mode, backend.address)
		l.Backend.ClientInfo = proxy.NoClientInfo
		must(t, proxy.CheckBackend(t.Context(), l.Backend))
		srv := serve(t, l)
		c := srv.tlsClient(mode)
		if mode == proxy.ModeImplicitTLS {
			c.expect("220 backend.example")
		}
		c.do("EHLO client.example", "250-")
		c.do("QUIT", "221 ")
		c.end()
		srv.session("ok")
		if said := backend.peers[1].transcript(); !strings.HasPrefix(said, "send: 220 backend.example ESMTP\r\n\nrecv: EHLO client.example") {
			t.Errorf("the backend heard:\n%s", said)
		}
	})
}
