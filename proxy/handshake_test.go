package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// failure is a client whose handshake can not succeed.
type failure struct {
	name   string
	change func(*testing.T, *proxy.Listener)
	client func(*testing.T, *client)
	reason string // of tls_handshake_failures_total
	log    string // part of the error in the log
	quiet  bool   // the log line has level debug
}

// refused is a client that shakes hands and gets an alert.
func refused(alert string, config func() *tls.Config) func(*testing.T, *client) {
	return func(t *testing.T, c *client) {
		err := c.tryHandshake(config())
		if err == nil {
			// With TLS 1.3 the client may be done before the server refuses.
			_, err = c.conn.Read(make([]byte, 1))
		}
		if err == nil || !strings.Contains(err.Error(), alert) {
			t.Errorf("the client sees %v, want %q", err, alert)
		}
	}
}

// says is a client that sends something else than a ClientHello, and gets
// nothing for it.
func says(text string) func(*testing.T, *client) {
	return func(_ *testing.T, c *client) {
		c.raw(text)
		c.end()
	}
}

func with(change func(*tls.Config)) func() *tls.Config {
	return func() *tls.Config {
		config := trusting("a.example")
		change(config)
		return config
	}
}

// failures provoke each reason with a real handshake, and so hold the texts of
// crypto/tls that have no type.
var failures = []failure{
	{"EOF", nil, func(_ *testing.T, c *client) { c.halfClose(); c.end() }, "eof", "EOF", true},
	{"EOF within the ClientHello", nil, func(_ *testing.T, c *client) {
		c.raw("\x16\x03\x01\x01\x00\x01")
		c.halfClose()
		c.end()
	}, "eof", "unexpected EOF", false},
	{"reset", nil, func(t *testing.T, c *client) {
		must(t, c.conn.(*net.TCPConn).SetLinger(0))
		must(t, c.conn.Close())
	}, "reset", "connection reset by peer", true},
	{"SMTP", nil, says("EHLO client.example\r\n"), "plaintext_on_tls_port", "first record does not look like a TLS handshake", false},
	{"SSL 2", nil, func(_ *testing.T, c *client) {
		c.raw("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10")
		c.gotAlert()
	}, "plaintext_on_tls_port", "", false},
	{"HTTP GET", nil, says("GET / HTTP/1.1\r\n\r\n"), "http_on_tls_port", "first record", false},
	{"HTTP OPTIONS", nil, says("OPTIONS * HTTP/1.1\r\n\r\n"), "http_on_tls_port", "first record", false},
	{"no TLS 1.2", nil, refused("protocol version", with(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })),
		"no_shared_version", "client offered only unsupported versions", false},
	{"no TLS 1.3", func(_ *testing.T, l *proxy.Listener) { l.TLS.MinVersion = tls.VersionTLS13 },
		refused("protocol version", with(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })),
		"no_shared_version", "client offered only unsupported versions", false},
	{"suites", nil, refused("handshake failure", with(func(c *tls.Config) {
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	})), "no_shared_cipher", "no cipher suite supported by both", false},
	{"suites of another key type", nil, refused("handshake failure", with(func(c *tls.Config) {
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	})), "no_shared_cipher", "no cipher suite supported by both", false},
	{"groups, TLS 1.3", func(_ *testing.T, l *proxy.Listener) { l.TLS.Curves = "P-521" },
		refused("handshake failure", with(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} })),
		"no_shared_cipher", "no key exchanges supported by both", false},
	{"groups, TLS 1.2", func(_ *testing.T, l *proxy.Listener) { l.TLS.Curves = "P-521" },
		refused("handshake failure", with(func(c *tls.Config) {
			c.CurvePreferences = []tls.CurveID{tls.CurveP256}
			c.MaxVersion = tls.VersionTLS12
		})), "no_shared_cipher", "no cipher suite supported by both", false},
	{"unknown name", func(_ *testing.T, l *proxy.Listener) { l.RejectUnknownSNI = true },
		refused("unrecognized name", with(func(c *tls.Config) { c.ServerName = "unknown.example" })),
		"unknown_sni", "no certificate for the client's server name", false},
	{"unusable name", func(_ *testing.T, l *proxy.Listener) { l.RejectUnknownSNI = true },
		refused("unrecognized name", with(func(c *tls.Config) { c.ServerName = "../a.example" })),
		"unknown_sni", "no certificate for the client's server name", false},
	{"no name and no default", brokenStore, refused("unrecognized name", with(func(c *tls.Config) {
		c.ServerName, c.InsecureSkipVerify = "", true
	})), "no_certificate", "there is no default certificate", false},
	{"broken certificate", brokenStore, refused("internal error", with(func(c *tls.Config) { c.ServerName = "broken.example" })),
		"no_certificate", "no certificate can be served: ", false},
	{"ALPN", nil, refused("no application protocol", with(func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} })),
		"alpn", "client requested unsupported application protocols", false},
	{"untrusted certificate, TLS 1.2", nil, refused("failed to verify", with(func(c *tls.Config) {
		c.RootCAs, c.MaxVersion = nil, tls.VersionTLS12
	})), "client_rejected_certificate", "remote error: tls: bad certificate", false},
	{"untrusted certificate, TLS 1.3", nil, refused("failed to verify", with(func(c *tls.Config) { c.RootCAs = nil })),
		"client_rejected_certificate", "remote error: tls: bad certificate", false},
	{"no client certificate", func(t *testing.T, l *proxy.Listener) { l.ClientAuth = byOurCA(t) },
		refused("", trustingA), "client_cert_required", "client didn't provide a certificate", false},
	{"client certificate of a stranger", func(t *testing.T, l *proxy.Listener) { l.ClientAuth = byOurCA(t) },
		refused("", showing), "client_cert_bad", "certificate signed by unknown authority", false},
	{"client certificate without a pinned key", func(_ *testing.T, l *proxy.Listener) {
		l.ClientAuth = tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, Pins: []tlsopts.Pin{{}}}
	}, refused("", showing), "client_cert_bad", "public key is none of those pinned", false},
	{"nonsense in a record", nil, func(_ *testing.T, c *client) {
		c.raw("\x16\x03\x01\x00\x04\x63\x00\x00\x00")
		c.gotAlert()
	}, "other", "tls: ", false},
}

func trustingA() *tls.Config { return trusting("a.example") }

// byOurCA accepts what the authority of the tests has signed.
func byOurCA(t *testing.T) tlsopts.ClientAuth {
	t.Helper()
	ca, err := tlsopts.ParseAuthorities(certificates().ca.PEM())
	must(t, err)
	return tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, CA: ca}
}

// showing is a client with a certificate of an authority that nobody knows.
// With TLS 1.2 it learns of the refusal in the handshake.
func showing() *tls.Config {
	ca, err := devcert.NewCA("stranger")
	if err != nil {
		panic(err)
	}
	cert, key, err := ca.Issue(devcert.Leaf{Names: []string{"client.example"}})
	if err != nil {
		panic(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		panic(err)
	}
	config := trustingA()
	config.MaxVersion = tls.VersionTLS12
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return config
}

// gotAlert reads a TLS record that is an alert, and then the end.
func (c *client) gotAlert() {
	c.conn.SetDeadline(time.Now().Add(c.patience))
	rest, err := io.ReadAll(c.r)
	if err != nil || len(rest) != 7 || rest[0] != 21 {
		c.fatalf("got %q and %v, want an alert", rest, err)
	}
}

// brokenStore gives the listener a store without a default, in which one of
// two folders can not be loaded.
func brokenStore(t *testing.T, l *proxy.Listener) {
	dir := t.TempDir()
	ca := certificates().ca
	for _, name := range []string{"a.example", "broken.example"} {
		must(t, ca.WriteFolder(dir, name, devcert.Leaf{Names: []string{name}}))
	}
	must(t, os.WriteFile(filepath.Join(dir, "broken.example", "key.pem"), []byte("broken"), 0o600))
	l.Certificates = openStoreOf(t, dir, "")
}

// TestHandshakeFailures: each has its reason, and no backend ever hears of one.
func TestHandshakeFailures(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		for _, test := range failures {
			t.Run(test.name, func(t *testing.T) {
				backend := newBackend(t, mailServer)
				l := listenerTo(t, mode, backend.address)
				if test.change != nil {
					test.change(t, &l)
				}
				srv := serve(t, l)
				c := srv.client(mode.String())
				if mode == proxy.ModeSTARTTLS {
					c.plainPhase()
				}
				test.client(t, c)
				line := srv.session("handshake_failed")
				contains(t, line["error"].(string), "TLS handshake: ", test.log)
				if line["reason"] != test.reason {
					t.Errorf("the log has the reason %v, want %s", line["reason"], test.reason)
				}
				if quiet := line["level"] == "DEBUG"; quiet != test.quiet {
					t.Errorf("level %v", line["level"])
				}
				srv.counts(1, "tls_handshake_failures_total", "reason", test.reason)
				srv.counts(1, "tls_handshake_failures_total")
				srv.counts(1, "tls_handshakes_total", "result", "failed")
				if mode == proxy.ModeSTARTTLS {
					srv.counts(1, "starttls_total", "outcome", "handshake_failed")
					srv.counts(1, "starttls_total")
				}
				if n := backend.connections(); n != 0 {
					t.Errorf("%d backend connections", n)
				}
			})
		}
	})
}

// TestClientAlerts: the alert's name stands in the log and the metrics, and
// those about our certificate have a reason of their own.
func TestClientAlerts(t *testing.T) {
	for number, want := range map[byte]struct{ alert, label, reason string }{
		40:  {"handshake_failure", "handshake_failure", "client_alert"},
		42:  {"bad_certificate", "bad_certificate", "client_rejected_certificate"},
		45:  {"certificate_expired", "certificate_expired", "client_rejected_certificate"},
		48:  {"unknown_ca", "unknown_ca", "client_rejected_certificate"},
		51:  {"decrypt_error", "decrypt_error", "client_alert"},
		113: {"bad_certificate_status_response", "bad_certificate_status_response", "client_rejected_certificate"},
		41:  {"alert_41", "other", "client_alert"},
	} {
		t.Run(want.alert, func(t *testing.T) {
			srv := serve(t, listenerTo(t, proxy.ModeImplicitTLS, newBackend(t, mailServer).address))
			c := srv.client(proxy.ModeImplicitTLS.String())
			c.raw("\x15\x03\x03\x00\x02\x02" + string([]byte{number}))
			c.end()
			line := srv.session("handshake_failed")
			if line["reason"] != want.reason || line["alert"] != want.alert {
				t.Errorf("the log has the reason %v and the alert %v, want %+v", line["reason"], line["alert"], want)
			}
			srv.counts(1, "tls_handshake_failures_total", "reason", want.reason)
			srv.counts(1, "tls_client_alerts_total", "alert", want.label)
			srv.counts(1, "tls_client_alerts_total")
		})
	}
}

// TestHandshakeTimeout: one deadline for all of it, however slowly the bytes
// come (R73).
func TestHandshakeTimeout(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		for _, every := range []time.Duration{0, time.Second} {
			inBubble(t, mode, nil, mailServer, func(b *bubble) {
				c := b.connect()
				if mode == proxy.ModeSTARTTLS {
					c.plainPhase()
				}
				synctest.Wait()
				var dripping sync.WaitGroup
				defer dripping.Wait()
				b.takes(proxy.DefaultHandshakeTimeout, func() {
					if every > 0 {
						dripping.Go(func() { drip(c.conn, every) })
					}
					b.session("handshake_failed")
				})
				b.counts(1, "tls_handshake_failures_total", "reason", "timeout")
				if n := b.backend.connections(); n != 0 {
					b.t.Errorf("%d backend connections", n)
				}
			})
		}
	})
}

// drip sends a ClientHello that never ends.
func drip(conn net.Conn, every time.Duration) {
	_, err := conn.Write([]byte("\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb"))
	for err == nil {
		time.Sleep(every)
		_, err = conn.Write([]byte{0})
	}
}

// clearAlerter replaces what a client sends behind its ClientHello by an alert
// in the clear, as OpenSSL does that refuses a certificate in TLS 1.3.
type clearAlerter struct {
	net.Conn
	wrote int
}

func (c *clearAlerter) Write(p []byte) (int, error) {
	if c.wrote++; c.wrote == 1 {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write([]byte{21, 3, 3, 0, 2, 2, 48}); err != nil { // fatal, unknown_ca
		return 0, err
	}
	return len(p), nil
}

func TestClientAlertInTheClear(t *testing.T) {
	t.Parallel()
	srv := serve(t, listenerTo(t, proxy.ModeImplicitTLS, newBackend(t, mailServer).address))
	c := srv.client(proxy.ModeImplicitTLS.String())
	config := &tls.Config{ServerName: "a.example", MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
	if err := tls.Client(&clearAlerter{Conn: c.conn}, config).Handshake(); err == nil {
		t.Fatal("the client trusts nobody, and is served")
	}
	srv.eventually("the failure is kept", func() bool { return len(srv.Failures()) == 1 })
	if got := srv.Failures()[0]; got.Reason != "client_rejected_certificate" || got.Alert != "unknown_ca" {
		t.Errorf("%+v", got)
	}
	srv.counts(1, "tls_client_alerts_total", "alert", "unknown_ca")
}
