package test

import (
	"fmt"
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
	era   atomic.Int64 // the test's own; sessions belong to the one that they began in

	mu       sync.Mutex
	failures map[int64][]string // of sessions, by era
	accepted []string           // markers of the messages that got their 250
}

// deliver sends messages on both ports until it is stopped, each in a session
// of its own.
func deliver(t *testing.T, p *proxy) *delivering {
	t.Helper()
	d := &delivering{failures: make(map[int64][]string)}
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
					if err != nil {
						d.failures[era] = append(d.failures[era], fmt.Sprintf("port %s: %v", port.name, err))
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

// failed are the failures of sessions that began in an era.
func (d *delivering) failed(era int64) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failures[era]
}

// TestBackends_OneOfTwoPostfixDies under load, and is started again: only the
// sessions that it had can break, and once a connection to it was refused no
// client sees anything of it. Every message that was accepted is delivered.
func TestBackends_OneOfTwoPostfixDies(t *testing.T) {
	t.Parallel()
	first, second := startPostfix(t), startPostfix(t)
	p := startProxy(t, setup{
		certificates: newCertificates(t), backend: first.proxied, others: []string{second.proxied},
		backendKeys: "health_check: {interval: 200ms, timeout: 5s}",
	})
	up := func(server *postfix, value string) {
		t.Helper()
		p.waitMetric(t, fmt.Sprintf(`smtp_tlsproxy_backend_up{address=%q,backend="mta"}`, server.proxied), value)
	}
	up(first, "1")
	up(second, "1")
	clients := deliver(t, p)
	clients.waitMore(t, 20)
	for _, server := range []*postfix{first, second} {
		server.waitLog(t, "client=unknown[127.0.0.1]")
	}

	clients.era.Add(1)
	syscall.Kill(-first.command.Process.Pid, syscall.SIGKILL) // with all of its processes
	<-first.exited
	p.waitLog(t, `"level":"WARN"`, "backend address is down; its clients go to the others", first.proxied)
	clients.era.Add(1)
	up(first, "0")
	clients.waitMore(t, 40)

	first.start(t)
	p.waitLog(t, `"level":"INFO"`, "backend address is up again", first.proxied)
	up(first, "1")
	before := strings.Count(first.logged(), "client=unknown[127.0.0.1]")
	eventually(t, "the one that is back gets clients", func() bool {
		return strings.Count(first.logged(), "client=unknown[127.0.0.1]") > before+5
	})
	clients.stop()
	// A session may break that was on its way when the server died, or that its
	// socket took while its processes died one after the other.
	if failures := append(clients.failed(0), clients.failed(1)...); len(failures) > 2*4 {
		t.Errorf("%d sessions broke: %q", len(failures), failures)
	}
	if failures := clients.failed(2); len(failures) > 0 {
		t.Errorf("sessions failed that began after a connection had been refused: %q", failures)
	}
	requireAllDelivered(t, clients.accepted, first, second)
	for _, server := range []*postfix{first, second} {
		for _, alarm := range []string{"fatal:", "panic:", "improper command pipelining"} {
			if line := lineWith(server.logged(), "smtpd", alarm); line != "" {
				t.Errorf("Postfix does not like its health checks: %s", line)
			}
		}
	}
}

// requireAllDelivered wants each marker in a message of one of the servers.
func requireAllDelivered(t *testing.T, markers []string, servers ...*postfix) {
	t.Helper()
	missing := 0
	eventually(t, fmt.Sprintf("all %d messages that were accepted are delivered", len(markers)), func() bool {
		var all strings.Builder
		for _, server := range servers {
			for _, message := range server.messages(t) {
				all.Write(message)
			}
		}
		missing = 0
		for _, marker := range markers {
			if !strings.Contains(all.String(), marker) {
				missing++
			}
		}
		return missing == 0
	})
}
