package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// often are health checks for tests that wait for what comes of them.
var often = proxy.HealthCheck{Interval: 10 * time.Millisecond}

// listenerToAll is a listener with health checks and a backend of several
// addresses.
func listenerToAll(t testing.TB, backends ...*fakeBackend) proxy.Listener {
	t.Helper()
	l := listenerTo(t, proxy.ModeImplicitTLS, "")
	l.Backend.HealthCheck = often
	l.Backend.Addresses = nil
	for _, b := range backends {
		l.Backend.Addresses = append(l.Backend.Addresses, b.address)
	}
	return l
}

// eventually polls until ok.
func (srv *server) eventually(what string, ok func() bool) {
	srv.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			srv.t.Fatalf("it did not come true that %s", what)
		}
	}
}

// waitUp waits until the metrics have the addresses up, or down.
func (srv *server) waitUp(want float64, backends ...*fakeBackend) {
	srv.t.Helper()
	for _, b := range backends {
		srv.eventually("the state of "+b.address+" is the wanted one", func() bool {
			return srv.metric("backend_up", "address", b.address) == want
		})
	}
}

// waitLog waits for a line with all of the parts.
func (srv *server) waitLog(parts ...string) {
	srv.t.Helper()
	srv.eventually("the log has a line with "+strings.Join(parts, " … "), func() bool {
		for line := range strings.Lines(srv.log.text()) {
			all := true
			for _, part := range parts {
				all = all && strings.Contains(line, part)
			}
			if all {
				return true
			}
		}
		return false
	})
}

// visit is a session from greeting to QUIT.
func (srv *server) visit() {
	srv.t.Helper()
	c := srv.tlsClient(proxy.ModeImplicitTLS)
	c.expect("220 ")
	c.do("QUIT", "221 ")
	c.end()
	c.conn.Close()
	srv.session("ok")
}

// clients are those connections of a backend that are no health checks.
func (b *fakeBackend) clients() int {
	b.mu.Lock()
	peers := b.peers
	b.mu.Unlock()
	n := 0
	for _, p := range peers {
		if <-p.headed; p.header != nil && !p.header.Command.IsLocal() {
			n++
		}
	}
	return n
}

// TestBackendDies: its own sessions break, the others and all new clients do
// not notice; it comes back by its health checks.
func TestBackendDies(t *testing.T) {
	first, second := newBackend(t, mailServer), newBackend(t, mailServer)
	srv := serve(t, listenerToAll(t, first, second))
	srv.waitUp(1, first, second)
	var clients []*client
	for range 4 { // two for each
		c := srv.tlsClient(proxy.ModeImplicitTLS)
		c.expect("220 ")
		clients = append(clients, c)
	}
	if a, b := first.clients(), second.clients(); a != 2 || b != 2 {
		t.Fatalf("the clients went %d and %d", a, b)
	}
	first.kill()
	broken := 0
	for _, c := range clients {
		c.send("NOOP")
		if line := c.line(); line == "" {
			broken++
		} else if !strings.HasPrefix(line, "250 ") {
			t.Errorf("reply %q", line)
		}
		c.conn.Close()
	}
	if broken != 2 {
		t.Errorf("%d sessions broke, want 2", broken)
	}
	for range clients {
		<-srv.log.sessions
	}
	for range 10 {
		srv.visit()
	}
	srv.waitUp(0, first)
	srv.waitLog(`"level":"WARN"`, `"msg":"backend address is down; its clients go to the others until it is back"`,
		`"backend":"mta"`, first.address, "connection refused")
	srv.counts(0, "backend_errors_total")
	if n := strings.Count(srv.log.text(), "address is down"); n != 1 {
		t.Errorf("%d lines for one address", n)
	}

	first.listen()
	srv.waitUp(1, first)
	srv.waitLog(`"level":"INFO"`, `"msg":"backend address is up again"`, `"backend":"mta"`, first.address, `"down":"`)
	before := first.clients()
	srv.visit()
	srv.visit()
	if first.clients() == before {
		t.Error("the address that is back gets no clients")
	}
}

// TestAllBackendsDie: clients get 421, and are served again at once when one
// address is back, whatever the health checks know.
func TestAllBackendsDie(t *testing.T) {
	first, second := newBackend(t, mailServer), newBackend(t, mailServer)
	l := listenerToAll(t, first, second)
	l.Backend.HealthCheck.Rise = 1 << 30
	srv := serve(t, l)
	srv.waitUp(1, first, second)
	must(t, srv.BackendsUp())
	first.kill()
	second.kill()
	srv.waitUp(0, first, second)
	srv.waitLog(`"level":"WARN"`, `"msg":"backend does not answer; its clients get 421 until it does"`, "connection refused")
	c := srv.tlsClient(proxy.ModeImplicitTLS)
	c.expect(unavailable)
	c.end()
	line := srv.session("backend_unavailable")
	contains(t, line["error"].(string), first.address, second.address)
	srv.counts(1, "backend_errors_total", "reason", "refused")
	if err := srv.BackendsUp(); err == nil {
		t.Error("no error")
	} else {
		contains(t, err.Error(), "backend mta: no address is up: ", "connection refused")
	}
	second.listen()
	srv.visit()
	srv.counts(0, "backend_up", "address", second.address)
}

// TestHealthCheckIsAProbe: it says that it is none of the clients, and goes
// with QUIT; a greeting that refuses counts as down.
func TestHealthCheckIsAProbe(t *testing.T) {
	quits := make(chan string, 1)
	good := newBackend(t, func(p *peer) {
		p.send("220-good.example", "220 ESMTP \x1b[31m")
		if verb, _, _ := strings.Cut(p.line(), " "); verb != "EHLO" {
			p.note("fault", "no EHLO")
		}
		p.send("250-good.example at your service", "250-SIZE 1000", "250-AUTH PLAIN", "250-\x1b[31m", "250 STARTTLS")
		line := p.line()
		select {
		case quits <- line:
		default:
		}
		p.send("221 bye")
	})
	busy := newBackend(t, func(p *peer) { p.send("421 4.3.2 too busy"); p.line() })
	srv := serve(t, listenerToAll(t, good, busy))
	if got := <-quits; got != "QUIT\r\n" {
		t.Errorf("the health check said %q", got)
	}
	srv.waitUp(1, good)
	srv.waitUp(0, busy)
	srv.waitLog(`"level":"WARN"`, busy.address, `its greeting refuses clients: 421 4.3.2 too busy`)
	for _, result := range []string{"success", "error"} {
		srv.eventually("health checks are counted", func() bool {
			return srv.metric("backend_health_checks_total", "backend", "mta", "result", result) > 0
		})
	}
	status := srv.Backends()
	if len(status) != 1 || status[0].Name != "mta" || status[0].Hostname != "good.example" ||
		!slices.Equal(status[0].Keywords, []string{"SIZE 1000"}) || len(status[0].Addresses) != 2 || status[0].Addresses[1].LastError == nil {
		t.Errorf("status %+v", status)
	}
	if good.clients() != 0 {
		t.Error("a health check passes for a client")
	}
	srv.counts(0, "sessions_total")
}

// TestReloadOfBackends: one that did not change keeps what is known of it; one
// that did begins anew, and its old addresses leave no series.
func TestReloadOfBackends(t *testing.T) {
	first, second := newBackend(t, mailServer), newBackend(t, mailServer)
	l := listenerToAll(t, first)
	l.Backend.HealthCheck.Interval = time.Hour
	srv := serve(t, l)
	srv.waitUp(1, first)
	c := srv.tlsClient(proxy.ModeImplicitTLS)
	c.expect("220 ")
	before := srv.Backends()[0]

	renamed := l
	renamed.Hostname = "renamed.example"
	must(t, srv.Reload([]proxy.Listener{renamed}))
	if got := srv.Backends()[0]; got.Addresses[0] != before.Addresses[0] || got.Addresses[0].Open != 1 {
		t.Errorf("%+v became %+v", before, got)
	}

	changed := l
	changed.Backend.Addresses = []string{second.address}
	must(t, srv.Reload([]proxy.Listener{changed}))
	srv.waitUp(1, second)
	srv.counts(-1, "backend_up", "address", first.address)
	c.do("NOOP", "250 ")
	c.do("QUIT", "221 ")
	c.end()
	srv.session("ok")

	other := changed
	other.Backend.Name = "other"
	must(t, srv.Reload([]proxy.Listener{other}))
	srv.eventually("the new name is up", func() bool { return srv.metric("backend_up", "backend", "other") == 1 })
	srv.counts(-1, "backend_up", "backend", "mta")
	srv.counts(-1, "backend_health_checks_total", "backend", "mta")
}

// TestBackendSettings holds what is refused.
func TestBackendSettings(t *testing.T) {
	good := listenerToAll(t, newBackend(t, mailServer))
	second := good
	second.Name, second.Backend.Balance = "second", proxy.RoundRobin
	balance, address := good, good
	balance.Backend.Balance = "random"
	address.Backend.Addresses = []string{"mail.example"}
	for _, test := range []struct {
		listeners []proxy.Listener
		want      string
	}{
		{[]proxy.Listener{good, second}, "backend mta: the listeners do not say the same of it"},
		{[]proxy.Listener{balance}, `listener implicit: backend mta: "random" is no way to balance: want one of ["least_connections" "round_robin" "client_hash"]`},
		{[]proxy.Listener{address}, "backend mta: address mail.example: missing port in address"},
	} {
		if srv, err := proxy.Listen(proxy.Config{Listeners: test.listeners}); err == nil {
			srv.Close()
			t.Errorf("no error, want %s", test.want)
		} else if err.Error() != test.want {
			t.Errorf("error %v, want %s", err, test.want)
		}
	}
}

// TestHangsUpBeforeItsGreeting: the client of an address that takes connections
// and hangs up gets the next one without noticing; with none left it hears so.
func TestHangsUpBeforeItsGreeting(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		dying, good := newBackend(t, func(*peer) {}), newBackend(t, mailServer)
		l := listenerTo(t, mode, dying.address)
		l.Backend.Addresses = append(l.Backend.Addresses, good.address)
		l.Backend.Balance = proxy.RoundRobin
		srv := serve(t, l)
		for range 3 {
			c := srv.tlsClient(mode)
			if mode == proxy.ModeImplicitTLS {
				c.expect("220 backend.example")
			}
			c.do("EHLO client.example", "250-")
			c.do("QUIT", "221 ")
			c.end()
			srv.session("ok")
		}
		if n := dying.connections(); n != 1 {
			t.Errorf("the dying address got %d connections, want 1", n)
		}
		good.kill()
		c := srv.tlsClient(mode)
		if mode == proxy.ModeSTARTTLS {
			c.send("EHLO client.example")
		}
		c.expect("421 4.3.2 ")
		line := srv.session("backend_unavailable")
		contains(t, fmt.Sprint(line["error"]), "backend mta: address "+dying.address+": no greeting: EOF", "connection refused")
		srv.counts(1, "backend_errors_total", "reason", "greeting_eof")
	})
}

// TestClientHash: a client gets the same address each time, and connections
// that came to nothing do not count as open.
func TestClientHash(t *testing.T) {
	busy := func(p *peer) { p.send("554 5.7.1 not you"); p.line() }
	first, second := newBackend(t, busy), newBackend(t, busy)
	l := listenerToAll(t, first, second)
	l.Backend.Balance, l.Backend.HealthCheck.Interval = proxy.ClientHash, -1
	srv := serve(t, l)
	for range 8 {
		c := srv.tlsClient(proxy.ModeImplicitTLS)
		c.expect("554 ")
		c.end()
		c.conn.Close()
		srv.session("backend_refused")
	}
	if a, b := first.clients(), second.clients(); a+b != 8 || a*b != 0 {
		t.Errorf("the clients went %d and %d", a, b)
	}
	for _, a := range srv.Backends()[0].Addresses {
		if a.Open != 0 {
			t.Errorf("%+v", a)
		}
	}
	if err := srv.BackendsUp(); err != nil { // a connection succeeded, and nobody checks
		t.Error(err)
	}
}
