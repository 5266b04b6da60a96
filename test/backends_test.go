package test

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// delivering are clients that send messages all the time.
type delivering struct {
	stop  func()
	count atomic.Int64 // sessions that succeeded
	era   atomic.Int64 // the test's own: odd while a server dies

	mu       sync.Mutex
	broken   []string // sessions that had to do with a server that died
	failed   []string // other sessions: those within an even era
	accepted []string // markers of the messages that got their 250
}

// deliver sends messages on both ports until it is stopped, each in a session
// of its own.
func deliver(t *testing.T, p *proxy) *delivering {
	t.Helper()
	d := new(delivering)
	done := make(chan struct{})
	var workers sync.WaitGroup
	d.stop = sync.OnceFunc(func() { close(done); workers.Wait() })
	t.Cleanup(d.stop)
	for _, port := range p.ports() {
		for range 2 {
			workers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					marker, era := newMarker(), d.era.Load()
					accepted, err := deliverOnce(port, clientOptions{serverName: defaultDomain, trust: p.certificates}, marker)
					d.mu.Lock()
					if accepted {
						d.accepted = append(d.accepted, marker)
					}
					switch story := fmt.Sprintf("port %s: %v", port.name, err); {
					case err == nil:
					case era%2 == 1 || era != d.era.Load():
						d.broken = append(d.broken, story)
					default:
						d.failed = append(d.failed, story)
					}
					d.mu.Unlock()
					if err == nil {
						d.count.Add(1)
					}
				}
			})
		}
	}
	return d
}

// deliverOnce tells whether the message was accepted, also where the session
// then failed.
func deliverOnce(to port, options clientOptions, marker string) (accepted bool, err error) {
	c, err := tryDial(to.address, "")
	if err != nil {
		return false, err
	}
	defer c.close()
	if err := c.enter(to, options.config()); err != nil {
		return false, err
	}
	for _, step := range []struct {
		code int
		line string
	}{
		{250, "EHLO client.test"}, {250, "MAIL FROM:<sender@client.test>"}, {250, "RCPT TO:<user@a.example>"}, {354, "DATA"},
		{250, "Subject: " + marker + "\r\n\r\ntext\r\n."}, {221, "QUIT"},
	} {
		if _, err := c.exchange(step.line, step.code); err != nil {
			return accepted, err
		}
		accepted = accepted || strings.HasSuffix(step.line, "\r\n.")
	}
	return accepted, nil
}

// waitMore waits for so many good sessions from now on.
func (d *delivering) waitMore(t *testing.T, n int64) {
	t.Helper()
	until := d.count.Load() + n
	eventually(t, fmt.Sprintf("%d more messages are sent", n), func() bool { return d.count.Load() >= until })
}

// mailServer is a real one behind the proxy, which can be started again.
type mailServer interface {
	start(testing.TB)
	killAll()
	logged() string
	messages(testing.TB) [][]byte
}

// killAll ends the process and all that it started, without a word.
func (p *process) killAll() {
	syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// dying is a server of the test below.
type dying struct {
	mailServer
	address string
	checked string // what it logs at the end of a connection that was closed in order
	took    string // what it logs of each message
}

// TestR80_BackendsDieUnderLoad: of two servers, one is killed with all of its
// processes, comes back, and then so the other. Only sessions that the server
// had can break: none that began when it was gone fails. It gets clients again
// after as many health checks as it has to pass. No message that was accepted
// is lost or taken twice, and nothing is left behind in the proxy.
func TestR80_BackendsDieUnderLoad(t *testing.T) {
	t.Parallel()
	mx, other := startPostfix(t), startExim(t)
	servers := []dying{
		{mx, mx.proxied, " quit=1 ", ": client=unknown[127.0.0.1]"},
		{other, other.proxied, "closed by QUIT", " <= sender@client.test"},
	}
	p := startProxy(t, setup{
		certificates: newCertificates(t), backend: mx.proxied, others: []string{other.proxied},
		backendKeys: "health_check: {interval: 500ms, timeout: 5s, rise: 3}",
	})
	for _, server := range servers {
		p.waitUp(t, server.address, "1")
	}
	for _, port := range p.ports() { // what is made once
		if _, err := deliverOnce(port, clientOptions{serverName: defaultDomain, trust: p.certificates}, newMarker()); err != nil {
			t.Fatal(err)
		}
	}
	p.waitNoConnections(t)
	resting := p.footprint(t)
	clients := deliver(t, p)
	for i, server := range servers {
		p.outlives(t, server, servers[1-i], clients)
	}
	clients.stop()
	other.runQueue(t)
	if len(clients.failed) > 0 {
		t.Errorf("sessions failed that had nothing to do with a server that died: %q", clients.failed)
	}
	// Four clients had at most one session each with a server that died; its
	// socket took some more while the processes behind it died one by one.
	if len(clients.broken) > 2*2*4 {
		t.Errorf("%d sessions broke: %q", len(clients.broken), clients.broken)
	}
	requireAllDelivered(t, clients.accepted, mx, other)
	requireNoneTwice(t, mx, other)
	p.waitNoConnections(t)
	p.requireFootprint(t, resting)
	for _, alarm := range []string{"fatal:", "panic:", "improper command pipelining"} {
		if line := lineWith(mx.logged(), "smtpd", alarm); line != "" {
			t.Errorf("Postfix does not like its health checks: %s", line)
		}
	}
}

// waitUp waits until the metric of an address has the value.
func (p *proxy) waitUp(t testing.TB, address, value string) {
	t.Helper()
	p.waitMetric(t, fmt.Sprintf(`smtp_tlsproxy_backend_up{address=%q,backend="mta"}`, address), value)
}

// outlives kills a server under load, and starts it again.
func (p *proxy) outlives(t *testing.T, dying, other dying, clients *delivering) {
	t.Helper()
	clients.waitTaken(t, dying, 10)
	clients.waitTaken(t, other, 10)
	clients.era.Add(1)
	dying.killAll()
	eventually(t, "nobody listens on "+dying.address, func() bool {
		conn, err := net.Dial("tcp", dying.address)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	clients.era.Add(1)
	clients.waitMore(t, 40)
	p.waitLog(t, `"level":"WARN"`, "backend address is down; its clients go to the others", dying.address)
	p.waitUp(t, dying.address, "0")
	// Health checks have to fail, too, or a client would be let try it.
	failed := p.number(t, healthChecks("error"))
	eventually(t, "as many health checks fail as take an address out", func() bool {
		return p.number(t, healthChecks("error")) >= failed+3
	})

	since := len(dying.logged())
	dying.start(t)
	p.waitLog(t, `"level":"INFO"`, "backend address is up again", dying.address)
	p.waitUp(t, dying.address, "1")
	clients.waitTaken(t, dying, 10)
	before, _, _ := strings.Cut(dying.logged()[since:], dying.took)
	// The server writes the last check's line about when the first client may come,
	// and a few more may pass until one comes.
	if n := strings.Count(before, dying.checked); n < 2 || n > 6 {
		t.Errorf("%d health checks passed before the first client, want 3:\n%s", n, indent(before))
	}
}

// healthChecks is the name of a sample.
func healthChecks(result string) string {
	return fmt.Sprintf(`smtp_tlsproxy_backend_health_checks_total{backend="mta",result=%q}`, result)
}

// waitTaken waits until a server has taken so many messages more.
func (d *delivering) waitTaken(t *testing.T, by dying, n int) {
	t.Helper()
	until := strings.Count(by.logged(), by.took) + n
	eventually(t, fmt.Sprintf("%s gets %d more clients", by.address, n), func() bool {
		return strings.Count(by.logged(), by.took) >= until
	})
}

// requireAllDelivered wants each marker in a message of one of the servers.
func requireAllDelivered(t *testing.T, markers []string, servers ...mailServer) {
	t.Helper()
	eventually(t, fmt.Sprintf("all %d messages that were accepted are delivered", len(markers)), func() bool {
		var all strings.Builder
		for _, server := range servers {
			for _, message := range server.messages(t) {
				all.Write(message)
			}
		}
		for _, marker := range markers {
			if !strings.Contains(all.String(), marker) {
				return false
			}
		}
		return true
	})
}

// queueID is the one in the first Received field.
var queueID = regexp.MustCompile(`(?s)Received:.*?\sid (\S+)`)

// requireNoneTwice wants that no message was taken twice. One that a server
// delivered again, because it was killed while it did, has the same queue id.
func requireNoneTwice(t *testing.T, servers ...mailServer) {
	t.Helper()
	taken := make(map[string]string) // by subject
	for _, server := range servers {
		for _, message := range server.messages(t) {
			_, sent := splitTrace(message)
			id := queueID.FindSubmatch(message)
			if id == nil || !strings.Contains(string(sent), "Subject: ") {
				t.Fatalf("a message without queue id or subject:\n%s", message)
			}
			if first, again := taken[string(sent)]; again && first != string(id[1]) {
				t.Errorf("taken twice, as %s and %s: %q", first, id[1], sent)
			}
			taken[string(sent)] = string(id[1])
		}
	}
}
