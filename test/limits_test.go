package test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// rejected is the name of a sample of connections_rejected_total.
func rejected(listener, reason string) string {
	return fmt.Sprintf(`smtp_tlsproxy_connections_rejected_total{listener=%q,reason=%q}`, listener, reason)
}

// waitNoConnections waits until no client has one.
func (p *proxy) waitNoConnections(t testing.TB) {
	t.Helper()
	for _, listener := range []string{"submissions", "submission"} {
		p.waitMetric(t, fmt.Sprintf("smtp_tlsproxy_connections_open{listener=%q}", listener), "0")
	}
}

// requireRefused wants that a client of an address gets no TLS on either port:
// on 587 it is told why, on 465 the connection ends.
func requireRefused(t *testing.T, p *proxy, local, why string) {
	t.Helper()
	for _, port := range p.ports() {
		got := dial(t, port.address, local).rest(t)
		if port.name == "465" && got != "" {
			t.Errorf("port 465: %s got %q, want nothing", local, got)
		}
		if want := "421 4.7.0 mail.a.example " + why + " ("; port.name == "587" && (!strings.HasPrefix(got, want) || strings.Count(got, "\r\n") != 1) {
			t.Errorf("port 587: %s got %q, want %q", local, got, want)
		}
	}
}

// TestR76_Limits: of connections in all and of one client, through reloads that
// change them, without a word to the sessions that there are.
func TestR76_Limits(t *testing.T) {
	t.Parallel()
	const full, enough = "too many connections", "too many connections from your address"
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	with := func(connections, perClient int) string {
		return fmt.Sprintf("connections: %d, connections_per_client: %d, %s", connections, perClient, manyHandshakes)
	}
	p := startProxy(t, setup{certificates: certs, backend: server.address, limits: with(4, 2)})
	var held []*client
	hold := func(local string) {
		t.Helper()
		for _, port := range p.ports() {
			c := open(t, port, clientOptions{local: local, serverName: "a.example", trust: certs})
			c.must(t, 250, "EHLO client.test")
			held = append(held, c)
		}
	}
	reload := func(limits string) {
		t.Helper()
		p.setup.limits = limits
		before := p.metric(t, `smtp_tlsproxy_config_reloads_total{result="success"}`)
		p.rewrite(t, p.yaml())
		eventually(t, "the configuration is reloaded", func() bool {
			return p.metric(t, `smtp_tlsproxy_config_reloads_total{result="success"}`) != before
		})
	}
	hold("127.0.0.2")
	requireRefused(t, p, "127.0.0.2", enough)
	hold("127.0.0.3")
	requireRefused(t, p, "127.0.0.4", full)
	if line := p.waitLog(t, `"level":"WARN"`, "limits.connections"); !strings.Contains(line, `"open":4`) {
		t.Errorf("the warning is %s", line)
	}
	p.waitMetric(t, rejected("submission", "per_client"), "1")
	p.waitMetric(t, rejected("submissions", "max_connections"), "1")

	reload(with(6, 2)) // more
	p.waitMetric(t, "smtp_tlsproxy_connections_limit", "6")
	hold("127.0.0.4")
	requireRefused(t, p, "127.0.0.5", full)
	reload(with(100, 1)) // fewer of each client than there are
	requireRefused(t, p, "127.0.0.2", enough)
	reload(with(1, 100)) // fewer than there are
	requireRefused(t, p, "127.0.0.5", full)
	for _, c := range held {
		sendMessage(t, c)
		c.close()
	}
	p.waitNoConnections(t)
	c := open(t, p.ports()[0], clientOptions{local: "127.0.0.5", serverName: "a.example", trust: certs})
	c.must(t, 250, "EHLO client.test")
	requireRefused(t, p, "127.0.0.6", full)
	c.mustEnd(t, 221, "QUIT")
	if n := strings.Count(p.logged(), `"outcome":"refused"`); n != 0 {
		t.Errorf("%d clients that were refused are in the log at level info", n)
	}
}

// TestR76_HandshakeRate: who comes too often waits, and others do not.
func TestR76_HandshakeRate(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, limits: "handshakes_per_second_per_client: 1"})
	eventually(t, "a client that comes often is refused", func() bool {
		c := dial(t, p.submission, "127.0.0.2")
		defer c.close()
		_, err := c.expect(421)
		return err == nil
	})
	if p.metric(t, rejected("submission", "handshake_rate")) == "0" {
		t.Error("no refusal was counted")
	}
	c := open(t, p.ports()[1], clientOptions{local: "127.0.0.3", serverName: "a.example", trust: certs})
	c.must(t, 250, "EHLO client.test")
	c.mustEnd(t, 221, "QUIT")
	eventually(t, "the client is let in again", func() bool {
		c, err := tryDial(p.submission, "127.0.0.2")
		if err != nil {
			return false
		}
		defer c.close()
		_, err = c.expect(220)
		return err == nil
	})
}

// TestR79_FileDescriptorsRunOut: the proxy stays, serves whom it has, and takes
// clients again when there are descriptors.
func TestR79_FileDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	few := &unix.Rlimit{Cur: 128, Max: 128}
	if err := unix.Prlimit(p.command.Process.Pid, unix.RLIMIT_NOFILE, few, nil); err != nil {
		t.Fatal(err)
	}
	var held []*client
	for _, port := range p.ports() {
		c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
		c.must(t, 250, "EHLO client.test")
		held = append(held, c)
	}
	const each = 150 // on each port
	for round := range 2 {
		var flood []*client
		for i := range 2 * each { // the system takes those that the proxy does not
			flood = append(flood, dial(t, p.ports()[i%2].address, floodAddress(i)))
		}
		eventually(t, "all descriptors are taken", func() bool {
			open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.command.Process.Pid))
			return err == nil && len(open) >= int(few.Cur)
		})
		for _, port := range p.ports() { // told at the first time, and then seldom
			p.waitLog(t, `"level":"ERROR"`, "accepting", fmt.Sprintf(`"listener":%q`, port.listener), "too many open files")
		}
		for _, c := range held {
			c.must(t, 250, "NOOP")
		}
		for _, c := range flood {
			c.close()
		}
		for _, listener := range []string{"submissions", "submission"} { // the flood has passed
			p.waitMetric(t, fmt.Sprintf("smtp_tlsproxy_connections_total{listener=%q}", listener), fmt.Sprint(1+round+each*(round+1)))
			p.waitMetric(t, fmt.Sprintf("smtp_tlsproxy_connections_open{listener=%q}", listener), "1")
		}
		for _, port := range p.ports() {
			c := open(t, port, clientOptions{serverName: "b.example", trust: certs})
			c.must(t, 250, "EHLO client.test")
			sendMessage(t, c)
			c.close()
		}
	}
	for _, c := range held {
		sendMessage(t, c)
		c.close()
	}
	p.waitReady(t)
	p.waitNoConnections(t)
	for _, port := range p.ports() {
		if n := p.number(t, fmt.Sprintf("smtp_tlsproxy_accept_errors_total{listener=%q}", port.listener)); n == 0 {
			t.Errorf("no accept errors of %s were counted", port.listener)
		}
	}
}
