package proxy_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// TestServerClosed: the verbs of net/http.
func TestServerClosed(t *testing.T) {
	srv := listen(t, listenerTo(t, proxy.ModeSTARTTLS, "127.0.0.1:1"))
	address := srv.Addr("starttls").String()
	served := make(chan error, 2)
	for range 2 { // a second Serve is of no harm
		go func() { served <- srv.Serve() }()
	}
	c := srv.client("starttls")
	c.expect("220 ")
	c.do("QUIT", "221 ")
	c.end()
	c.conn.Close()
	must(t, srv.Shutdown(t.Context()))
	for range 2 {
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	}
	if err := srv.Serve(); !errors.Is(err, proxy.ErrServerClosed) {
		t.Errorf("Serve behind Shutdown returned %v", err)
	}
	if err := srv.Reload([]proxy.Listener{listenerTo(t, proxy.ModeSTARTTLS, "127.0.0.1:1")}); !errors.Is(err, proxy.ErrServerClosed) {
		t.Errorf("Reload behind Shutdown returned %v", err)
	}
	must(t, srv.Shutdown(t.Context()))
	must(t, srv.Close())
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("the address is still served")
	}
}

// TestCloseWithoutServe gives the addresses back.
func TestCloseWithoutServe(t *testing.T) {
	srv := listen(t, listenerTo(t, proxy.ModeSTARTTLS, "127.0.0.1:1"))
	address := srv.Addr("starttls").String()
	must(t, srv.Close())
	l, err := net.Listen("tcp", address)
	must(t, err)
	must(t, l.Close())
}

// TestWithoutLoggerAndMetrics: both are optional.
func TestWithoutLoggerAndMetrics(t *testing.T) {
	srv, err := proxy.Listen(proxy.Config{Listeners: []proxy.Listener{listenerTo(t, proxy.ModeSTARTTLS, "127.0.0.1:1")}})
	must(t, err)
	defer srv.Close()
	go srv.Serve()
	c := dialClient(t, srv.Addr("starttls"))
	c.expect("220 ")
	c.do("QUIT", "221 ")
	c.end()
	if srv.Addr("other") != nil {
		t.Error("a listener that there is not has an address")
	}
}

// TestReload: listeners come, go and stay; sessions stay with what they began
// with (R42).
func TestReload(t *testing.T) {
	first, second := newBackend(t, mailServer), newBackend(t, mailServer)
	stays, goes, comes := listenerTo(t, proxy.ModeSTARTTLS, first.address), listenerTo(t, proxy.ModeSTARTTLS, first.address), listenerTo(t, proxy.ModeImplicitTLS, second.address)
	stays.Name, goes.Name, comes.Name = "stays", "goes", "comes"
	goes.Backend.Name = "old"
	srv := serve(t, stays, goes)
	address := srv.Addr("stays").String()

	kept, orphan := srv.client("stays"), srv.client("goes")
	for _, c := range []*client{kept, orphan} {
		c.startTLS(trusting("a.example"))
		c.do("NOOP", "250 ")
	}
	gone := srv.Addr("goes").String()
	stays.Backend.Addresses = []string{second.address}
	stays.Hostname = "renamed.example"
	must(t, srv.Reload([]proxy.Listener{stays, comes}))

	if got := srv.Addr("stays").String(); got != address {
		t.Errorf("the listener that stayed moved from %s to %s", address, got)
	}
	if conn, err := net.Dial("tcp", gone); err == nil {
		conn.Close()
		t.Error("the address that went is still served")
	}
	for _, c := range []*client{kept, orphan} {
		c.do("QUIT", "221 ")
		c.end()
		srv.session("ok")
	}
	if n := second.connections(); n != 0 {
		t.Errorf("old sessions got %d connections to the new backend", n)
	}

	c := srv.client("stays")
	contains(t, c.expect("220 "), "renamed.example")
	c.do("STARTTLS", "220 ")
	c.handshake(trusting("a.example"))
	c.do("QUIT", "221 ")
	c.end()
	c = srv.client("comes")
	c.handshake(trusting("a.example"))
	c.expect("220 ")
	c.do("QUIT", "221 ")
	c.end()
	if n := second.connections(); n != 2 {
		t.Errorf("the new backend got %d connections, want 2", n)
	}
	srv.counts(-1, "connections_total", "listener", "goes")
	srv.counts(-1, "backend_errors_total", "backend", "old")
	srv.counts(2, "connections_total", "listener", "stays")
	srv.counts(0, "accept_errors_total", "listener", "comes")
}

// TestReloadIsAllOrNothing: one listener that can not be is enough to leave
// everything as it was.
func TestReloadIsAllOrNothing(t *testing.T) {
	backend := newBackend(t, mailServer)
	served := listenerTo(t, proxy.ModeSTARTTLS, backend.address)
	srv := serve(t, served)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()

	good, invalid, occupied, twice := served, served, served, served
	good.Name, good.Address = "good", freeAddress(t)
	invalid.Name, invalid.Mode = "invalid", 0
	occupied.Name, occupied.Address = "occupied", taken.Addr().String()
	_, port, _ := net.SplitHostPort(good.Address)
	twice.Name, twice.Address = "twice", "127.0.0.1:0"+port // the same in other words
	for _, next := range [][]proxy.Listener{
		nil, {good, invalid}, {good, occupied}, {good, good}, {good, twice}, {served, served},
	} {
		if err := srv.Reload(next); err == nil {
			t.Fatalf("%v was accepted", next)
		}
		if l, err := net.Listen("tcp", good.Address); err != nil {
			t.Errorf("an address of a refused configuration is still taken: %v", err)
		} else {
			l.Close()
		}
		c := srv.client("starttls")
		c.expect("220 ")
		c.do("QUIT", "221 ")
		c.end()
	}
	srv.counts(-1, "connections_total", "listener", "good")
}

// TestReloadUnderLoad: a listener that stays loses no client, however often it
// is reloaded (R29, R42).
func TestReloadUnderLoad(t *testing.T) {
	backend := newBackend(t, mailServer)
	l := listenerTo(t, proxy.ModeImplicitTLS, backend.address)
	srv := serve(t, l)
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
				err = srv.Reload([]proxy.Listener{l})
			}
		}
		stopped <- err
	}()
	for range 50 {
		c := srv.client("implicit")
		c.handshake(trusting("a.example"))
		c.expect("220 ")
		c.do("QUIT", "221 ")
		c.end()
		c.conn.Close()
	}
	close(stop)
	must(t, <-stopped)
	srv.counts(50, "sessions_total", "outcome", "ok")
}

// TestShutdownOfManyAtOnce is a drain under load; no goroutine stays behind.
func TestShutdownOfManyAtOnce(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serve(t, listenerTo(t, proxy.ModeSTARTTLS, backend.address))
	var clients []*client
	for i := range 60 {
		c := srv.client("starttls")
		switch i % 3 {
		case 0:
			c.expect("220 ")
		case 1:
			c.startTLS(trusting("a.example"))
			c.do("NOOP", "250 ")
		case 2:
			c.startTLS(trusting("a.example"))
			c.do("MAIL FROM:<a@client.example>", "250 ")
		}
		clients = append(clients, c)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { done <- srv.Shutdown(ctx) }()
	for i, c := range clients {
		if i%3 == 2 {
			c.do("DATA", "354 ")
			c.do("text\r\n.", "250 ")
		}
		c.expect(shuttingDown)
		c.end()
		c.conn.Close()
	}
	must(t, <-done)
	srv.counts(60, "sessions_total", "outcome", "drained")
	srv.counts(0, "connections_open")
}
