package test

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/freeport"
)

// configSuccessful is the sample that tells whether the last reading of the
// configuration succeeded.
const configSuccessful = "smtp_tlsproxy_config_last_reload_successful"

// TestReload_FaultyFileChangesNothing: whatever is wrong, all that was there
// goes on, and the log tells why.
func TestReload_FaultyFileChangesNothing(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var sessions []*client
	for _, port := range p.ports() {
		c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
		c.must(t, 250, "EHLO client.test")
		sessions = append(sessions, c)
	}
	good := p.yaml()
	otherPort, both := p.setup, p.setup
	otherPort.submissions = taken.Addr().String()
	both.submission, both.submissions = loopback(t), taken.Addr().String() // one of two can be had
	for i, fault := range []struct {
		text string
		says []string
	}{
		{"", []string{p.file}},
		{"listeners: [", []string{p.file + ":"}},
		{strings.Replace(good, "format: json", "fromat: json", 1), []string{p.file + ":", "did you mean"}},
		{strings.Replace(good, "default: a.example", "default: missing.test", 1), []string{"default certificate", "missing.test"}},
		{strings.Replace(good, certs.dir, "/nonexistent/certs", 1), []string{"/nonexistent/certs", "no such file"}},
		{otherPort.yaml(), []string{otherPort.submissions, "address already in use"}},
		{both.yaml(), []string{otherPort.submissions, "address already in use"}},
		{good + "nonsense: true\n", []string{"nonsense"}},
	} {
		p.rewrite(t, fault.text)
		p.waitMetric(t, `smtp_tlsproxy_config_reloads_total{result="error"}`, fmt.Sprint(i+1))
		p.waitMetric(t, configSuccessful, "0")
		line := p.waitLog(t, append([]string{`"level":"ERROR"`, "configuration refused"}, fault.says...)...)
		if !strings.Contains(line, "stays in force") {
			t.Errorf("the log does not say what happens: %s", line)
		}
		for _, port := range p.ports() {
			c := open(t, port, clientOptions{serverName: "b.example", trust: certs})
			c.must(t, 250, "EHLO client.test")
			c.mustEnd(t, 221, "QUIT")
			c.close()
		}
	}
	if !freeport.IsFree("127.0.0.1", portOf(t, both.submission)) {
		t.Error("an address of a configuration that was refused is still bound")
	}
	for _, c := range sessions {
		sendMessage(t, c)
	}
	p.rewrite(t, good)
	p.waitMetric(t, configSuccessful, "1")
	p.waitLog(t, "configuration reloaded")
}

// sendMessage sends one and quits.
func sendMessage(t *testing.T, c *client) {
	t.Helper()
	c.must(t, 250, "MAIL FROM:<s@x>")
	c.must(t, 250, "RCPT TO:<r@x>")
	c.must(t, 354, "DATA")
	c.must(t, 250, "Subject: x\r\n\r\ntext\r\n.")
	c.mustEnd(t, 221, "QUIT")
}

// TestReload_ListenersAndBackends change for new clients; sessions go on as
// they began, also those of a listener that is gone.
func TestReload_ListenersAndBackends(t *testing.T) {
	t.Parallel()
	old, next := startRecorder(t, withHeader), startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: old.address})
	var sessions []*client
	var markers []string
	for _, port := range p.ports() {
		c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
		markers = append(markers, newMarker())
		c.must(t, 250, "EHLO "+markers[len(markers)-1])
		sessions = append(sessions, c)
	}
	plain := dial(t, p.submission, "") // has spoken to nobody yet but the proxy
	if _, err := plain.expect(220); err != nil {
		plain.fatal(t, err)
	}

	gone := p.submissions
	changed := p.setup
	changed.submissions, changed.backend, changed.hostname = loopback(t), next.address, "other.a.example"
	changed.tls = "unknown_sni: reject"
	p.rewrite(t, changed.yaml())
	p.waitLog(t, "configuration reloaded")
	p.setup = changed
	for _, port := range p.ports() {
		marker := newMarker()
		c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
		c.must(t, 250, "EHLO "+marker)
		sendMessage(t, c)
		next.waitSession(t, marker)
		requireAlert(t, port, helloFor(t, "unknown.test"), unrecognizedName)
	}
	if conn, err := net.Dial("tcp", gone); err == nil {
		conn.Close()
		t.Errorf("%s is still served", gone)
	}
	fresh := dial(t, p.submission, "")
	if greeting, err := fresh.expect(220); err != nil || !strings.HasPrefix(greeting, "220 other.a.example ") {
		t.Errorf("the greeting is %q, %v", greeting, err)
	}
	for i, c := range sessions {
		sendMessage(t, c)
		if got := string(old.waitSession(t, markers[i]).bytes()); !strings.Contains(got, "\r\nDATA\r\n") {
			t.Errorf("the old backend got %q", got)
		}
	}
	plain.must(t, 220, "STARTTLS") // still under the old configuration
	if err := plain.startTLS(clientOptions{serverName: "b.example", trust: certs}.config()); err != nil {
		plain.fatal(t, err)
	}
	marker := newMarker()
	plain.must(t, 250, "EHLO "+marker)
	plain.mustEnd(t, 221, "QUIT")
	old.waitSession(t, marker)
}

// TestR42_ReloadLosesNoClient: the sockets stay open through any number of
// reloads.
func TestR42_ReloadLosesNoClient(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address})
	clients := hammer(t, p)
	for i := range 20 {
		p.signal(t, syscall.SIGHUP)
		clients.waitMore(t, 4)
		p.waitMetric(t, `smtp_tlsproxy_config_reloads_total{result="success"}`, fmt.Sprint(i+2)) // the start counts
	}
	clients.stop()
}
