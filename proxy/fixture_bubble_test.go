package proxy_test

import (
	"context"
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// bubble is a server in a bubble of package synctest: time passes only while
// everybody waits. Connections are in memory.
type bubble struct {
	*server
	t       testing.TB
	mode    proxy.Mode
	backend *fakeBackend
	buffer  int // of the connections from clients
}

// aDay is the patience in a bubble.
const aDay = 24 * time.Hour

// inBubble runs a test in a bubble. What the change does to the listener is
// done before.
func inBubble(t *testing.T, mode proxy.Mode, change func(*proxy.Listener), script func(*peer), test func(*bubble)) {
	t.Helper()
	l := listenerTo(t, mode, "192.0.2.1:25") // not dialled
	// The store's goroutines, which wait for the disk, stay outside.
	if _, err := l.Certificates.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example"}); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&l)
	}
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{server: listen(t, l), t: t, mode: mode, buffer: memoryBuffer}
		b.patience = aDay
		b.backend = &fakeBackend{t: t, script: func(p *peer) { p.patience = aDay; script(p) }}
		t.Cleanup(b.backend.stop)
		test(b)
	})
}

// connect begins a session.
func (b *bubble) connect() *client { return b.connectVia(b.backend.dial) }

func (b *bubble) connectVia(dial proxy.DialFunc) *client {
	b.t.Helper()
	ours, theirs := memoryPipe(465, b.buffer)
	b.Begin(theirs, dial)
	c := newClient(b.t, ours)
	c.patience = aDay
	return c
}

// relayed begins a session and brings it to the relay.
func (b *bubble) relayed() *client { return b.relayedVia(b.backend.dial) }

func (b *bubble) relayedVia(dial proxy.DialFunc) *client {
	b.t.Helper()
	c := b.connectVia(dial)
	c.secure(b.mode)
	if b.mode == proxy.ModeImplicitTLS {
		c.expect("220 ")
	}
	c.do("NOOP", "250 ")
	return c
}

// secure brings the client under TLS.
func (c *client) secure(mode proxy.Mode) {
	c.t.Helper()
	if mode == proxy.ModeSTARTTLS {
		c.startTLS(trusting("a.example"))
	} else {
		c.handshake(trusting("a.example"))
	}
}

// takes checks how long something took.
func (b *bubble) takes(want time.Duration, what func()) {
	b.t.Helper()
	began := time.Now()
	what()
	if took := time.Since(began); took != want {
		b.t.Errorf("it took %v, want %v", took, want)
	}
}

// shutdown begins a Shutdown that cuts after a time, and returns when all wait
// for something else. The result comes later.
func (b *bubble) shutdown(cutAfter time.Duration) <-chan error {
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), cutAfter)
	b.t.Cleanup(cancel)
	go func() { done <- b.Shutdown(ctx) }()
	synctest.Wait()
	return done
}

// never is a script that keeps the connection and says nothing.
func never(p *peer) { p.line() }
