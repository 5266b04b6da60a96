package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

// routed is a proxy that leads b.example and *.w.example to Exim, and all
// others to Postfix.
type routed struct {
	*proxy
	servers map[string]mailServer // by backend
}

func startRouted(t *testing.T) *routed {
	t.Helper()
	mx, other := startPostfix(t), startExim(t)
	const check = "health_check: {interval: 500ms, timeout: 5s}"
	p := startProxy(t, setup{
		certificates: newCertificates(t), backend: mx.proxied, backendKeys: "preset: postfix, " + check, mx: loopback(t),
		backends: fmt.Sprintf("exim: {addresses: [%q], preset: exim, %s}", other.proxied, check),
		routes:   `[{server_names: [b.example, "*.w.example"], backend: exim}]`,
	})
	r := &routed{proxy: p, servers: map[string]mailServer{"mta": mx, "exim": other}}
	r.waitBackend(t, "mta", "1")
	r.waitBackend(t, "exim", "1")
	return r
}

// waitBackend waits until health checks have found the only address of a
// backend up, which is "1", or down.
func (r *routed) waitBackend(t *testing.T, name, up string) {
	t.Helper()
	address := r.backend
	if name == "exim" {
		address = r.servers["exim"].(*exim).proxied
	}
	r.waitMetric(t, fmt.Sprintf("smtp_tlsproxy_backend_up{address=%q,backend=%q}", address, name), up)
}

// tryDeliver sends a message under a server name, which no certificate need
// have.
func (r *routed) tryDeliver(to port, name, marker string) (c *client, err error) {
	if c, err = tryDial(to.address, ""); err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.enter(to, &tls.Config{ServerName: name, InsecureSkipVerify: true}); err != nil {
		return c, err
	}
	return c, c.sendMessage(marker)
}

// sendMessage is a whole session behind the greeting.
func (c *client) sendMessage(marker string) error {
	for _, step := range []struct {
		code int
		line string
	}{
		{250, "EHLO client.test"}, {250, "MAIL FROM:<sender@client.test>"}, {250, "RCPT TO:<user@a.example>"}, {354, "DATA"},
		{250, "Subject: " + marker + "\r\n\r\ntext\r\n."}, {221, "QUIT"},
	} {
		if _, err := c.exchange(step.line, step.code); err != nil {
			return err
		}
	}
	return nil
}

// requireDelivered sends a message under a server name through each port that
// has TLS, and returns the markers.
func (r *routed) requireDelivered(t *testing.T, name, backend string) (markers []string) {
	t.Helper()
	for _, port := range r.ports()[:3] {
		marker := newMarker()
		c, err := r.tryDeliver(port, name, marker)
		if err != nil {
			t.Fatalf("port %s, server name %q: %v", port.name, name, err)
		}
		if line := r.waitSession(t, c.local()); line.Backend != backend || line.Outcome != "ok" {
			t.Errorf("port %s, server name %q: the session says backend %s and %s, want %s", port.name, name, line.Backend, line.Outcome, backend)
		}
		markers = append(markers, marker)
	}
	return markers
}

// requireNowhereElse wants each message in the server of its backend and in no
// other, and no messages besides them.
func (r *routed) requireNowhereElse(t *testing.T, sent map[string][]string) {
	t.Helper()
	for backend, markers := range sent {
		requireAllDelivered(t, markers, r.servers[backend])
	}
	for backend, server := range r.servers {
		messages := server.messages(t)
		if len(messages) != len(sent[backend]) {
			t.Errorf("%s has %d messages, want %d", backend, len(messages), len(sent[backend]))
		}
		for other, markers := range sent {
			for _, marker := range markers {
				if other != backend && bytes.Contains(bytes.Join(messages, nil), []byte(marker)) {
					t.Errorf("a message for %s is in %s", other, backend)
				}
			}
		}
	}
}

// TestRoutes_MailComesToItsServer: the server name that a client asks for says
// which of two servers gets it, with implicit TLS and after STARTTLS alike.
func TestRoutes_MailComesToItsServer(t *testing.T) {
	t.Parallel()
	r := startRouted(t)
	sent := make(map[string][]string)
	for _, test := range []struct{ name, backend string }{
		{"b.example", "exim"}, {"B.Example", "exim"}, {"x.w.example", "exim"}, {"y.W.EXAMPLE", "exim"},
		{"a.example", "mta"}, {"c.example", "mta"},
		{"w.example", "mta"}, {"y.x.w.example", "mta"}, // a wildcard is one label
		{"x.b.example", "mta"}, {"bb.example", "mta"}, {"unknown.test", "mta"}, {"", "mta"},
	} {
		sent[test.backend] = append(sent[test.backend], r.requireDelivered(t, test.name, test.backend)...)
	}
	// Without TLS there is no server name, whoever the recipients are.
	marker := newMarker()
	if _, err := r.tryDeliver(r.plain(), "b.example", marker); err != nil {
		t.Fatal(err)
	}
	sent["mta"] = append(sent["mta"], marker)
	r.requireNowhereElse(t, sent)

	// It is the server itself that answers behind TLS.
	for name, server := range map[string]string{"a.example": "postfix.test", "b.example": "exim.test"} {
		for _, port := range r.ports()[:3] {
			c := open(t, port, clientOptions{serverName: name, trust: r.certificates})
			if reply := c.must(t, 250, "EHLO client.test"); !strings.HasPrefix(reply, "250-"+server) {
				t.Errorf("port %s: the EHLO of a client of %s is answered by %q", port.name, name, reply)
			}
			c.mustEnd(t, 221, "QUIT")
		}
	}
}

// TestRoutes_AServerDies: each of the servers is killed with all of its
// processes. Its domains get 421, and all others' mail goes on, that of a
// session which was open included.
func TestRoutes_AServerDies(t *testing.T) {
	t.Parallel()
	r := startRouted(t)
	names := map[string]string{"mta": "a.example", "exim": "b.example"}
	sent := make(map[string][]string)
	deliver := func(backend string) {
		t.Helper()
		sent[backend] = append(sent[backend], r.requireDelivered(t, names[backend], backend)...)
	}
	for _, dies := range []string{"mta", "exim"} {
		lives := map[string]string{"mta": "exim", "exim": "mta"}[dies]
		var held []*client
		for _, port := range r.ports()[:3] {
			held = append(held, open(t, port, clientOptions{serverName: names[lives], trust: r.certificates}))
		}
		r.servers[dies].killAll()
		r.waitBackend(t, dies, "0")
		for _, port := range r.ports()[:3] {
			c, err := r.tryDeliver(port, names[dies], newMarker())
			if err == nil || !strings.Contains(err.Error(), "421 4.3.2 ") {
				t.Errorf("port %s: %s is dead, and a client of its domain sees %v", port.name, dies, err)
			}
			if line := r.waitSession(t, c.local()); line.Backend != dies || line.Outcome != "backend_unavailable" {
				t.Errorf("port %s: the session says backend %s and %s, want %s", port.name, line.Backend, line.Outcome, dies)
			}
		}
		deliver(lives)
		for _, c := range held {
			marker := newMarker()
			if err := c.sendMessage(marker); err != nil {
				c.fatal(t, err)
			}
			sent[lives] = append(sent[lives], marker)
		}
		r.servers[dies].start(t)
		r.waitBackend(t, dies, "1")
		deliver(dies)
		deliver(lives)
	}
	r.requireNowhereElse(t, sent)
}
