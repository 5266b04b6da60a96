package test

import (
	"crypto/tls"
	"testing"
	"time"
)

// TestR73_SlowClientHelloIsCut: the deadline is one for the whole handshake,
// and no byte puts it off.
func TestR73_SlowClientHelloIsCut(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, tls: "handshake_timeout: 2s"})
	for i, port := range p.ports() {
		t.Run(port.name, func(t *testing.T) {
			t.Parallel()
			c := atHandshake(t, port, "")
			// At this rate the ClientHello would take a minute.
			c.tapped(1, time.Minute/time.Duration(len(helloFor(t, "a.example"))))
			err := c.startTLS(clientOptions{serverName: "a.example", trust: certs}.config())
			if err == nil {
				t.Error("the handshake succeeded")
			}
			p.waitMetric(t, handshakeFailures([]string{"submissions", "submission"}[i], "timeout"), "1")
			if line := p.waitSession(t, c.local()); line.Outcome != "handshake_failed" {
				t.Errorf("the outcome is %s, want handshake_failed", line.Outcome)
			}
		})
	}
}

// TestR73_R39_ClientHelloInManySegments: a big one, byte by byte, but soon.
func TestR73_R39_ClientHelloInManySegments(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	for _, port := range p.ports() {
		for _, piece := range []int{1, 2, 5, 700} {
			config := clientOptions{serverName: "b.example", trust: certs}.config()
			config.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
			if hello := clientHello(t, config); len(hello) < 1200 {
				t.Fatalf("the ClientHello has %d bytes, which is no big one", len(hello))
			}
			c := dial(t, port.address, "")
			c.tapped(piece, 0)
			if err := c.enter(port, config); err != nil {
				t.Fatalf("port %s, pieces of %d: %v", port.name, piece, err)
			}
			if group := c.conn.(*tls.Conn).ConnectionState().CurveID; group != tls.X25519MLKEM768 {
				t.Errorf("port %s: the group is %v", port.name, group)
			}
			c.must(t, 250, "EHLO client.test")
			c.mustEnd(t, 221, "QUIT")
		}
	}
}
