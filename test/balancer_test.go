package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// TestR54_BehindHAProxy: what HAProxy says of a client, in either version and
// with all that it can add, is what Postfix learns; on both ports, with TLS and
// the greeting as they are without HAProxy.
func TestR54_BehindHAProxy(t *testing.T) {
	t.Parallel()
	server := startPostfix(t)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied, trusted: "127.0.0.1"})
	headers := []string{
		"send-proxy", "send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn",
		"send-proxy-v2 proxy-v2-options crc32c", "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c",
	}
	var sections []ahead
	for _, header := range headers {
		for _, port := range p.ports() {
			sections = append(sections, ahead{of: port, server: header})
		}
	}
	balancer := startHAProxy(t, sections...)
	for i, port := range balancer.ports {
		t.Run(sections[i].server+" on "+port.name, func(t *testing.T) {
			local := fmt.Sprintf("127.0.1.%d", i+1)
			c := open(t, port, clientOptions{local: local, serverName: "b.example", trust: certs})
			c.mailTo(t, "client.test", "user@a.example")
			c.must(t, 354, "DATA")
			marker := newMarker()
			c.must(t, 250, "Subject: "+marker+"\r\n\r\ntext\r\n.")
			c.mustEnd(t, 221, "QUIT")
			if message := string(server.waitMessage(t, marker)); !strings.Contains(message, "Received: from client.test (unknown ["+local+"])") {
				t.Errorf("the message does not come from %s:\n%s", local, message)
			}
			server.waitLog(t, "connect from unknown["+local+"]")
			line := p.waitSession(t, c.local())
			if line.Outcome != "ok" || line.ServerName != "b.example" || !strings.HasPrefix(line.Balancer, "127.0.0.1:") || line.Listener != port.listener {
				t.Errorf("the log has %+v", line)
			}
		})
	}
	if line := lineWith(server.logged(), "client=", "[127.0.0.1]"); line != "" {
		t.Errorf("Postfix took a client for the load balancer: %s", line)
	}
}

// TestR49_NoOpenRelayBehindHAProxy: HAProxy and the proxy are both in Postfix's
// mynetworks, and none of their clients gets what that allows, IPv4 or IPv6.
func TestR49_NoOpenRelayBehindHAProxy(t *testing.T) {
	need(t, "root", "ip", "postfix", "haproxy")
	if !inNamespace(t, "198.51.100.1/32", "198.51.100.7/32", "2001:db8::1/128", "2001:db8::7/128") {
		return
	}
	server := startPostfix(t)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied, trusted: "127.0.0.1"})
	strangers := map[string]string{"198.51.100.1": "198.51.100.7", "2001:db8::1": "2001:db8::7"}
	friends := map[string]string{"198.51.100.1": "127.0.0.9", "2001:db8::1": "::1"}
	var sections []ahead
	for host := range strangers {
		for _, header := range []string{"send-proxy", "send-proxy-v2-ssl"} {
			for _, port := range p.ports() {
				sections = append(sections, ahead{of: port, host: host, server: header})
			}
		}
	}
	balancer := startHAProxy(t, sections...)
	for i, port := range balancer.ports {
		host := sections[i].host
		requireRelayDenied(t, server, port, clientOptions{local: strangers[host], serverName: "b.example", trust: certs})
		// The control: Postfix relays for its own network.
		requireRelayed(t, port, clientOptions{local: friends[host], serverName: "b.example", trust: certs})
	}
}

// TestR51_OnlyTheBalancerConnects: who comes past it is let go without a word,
// and so is what it sends without a header. The limits of a client are not the
// load balancer's.
func TestR51_OnlyTheBalancerConnects(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{
		certificates: certs, backend: server.address, trusted: "127.0.0.1, 2001:db8::/32", limits: "connections_per_client: 1, " + fewConnections + ", " + manyHandshakes,
	})
	var sections []ahead
	for _, port := range p.ports() {
		sections = append(sections, ahead{of: port, server: "send-proxy-v2"}, ahead{of: port, server: ""})
	}
	balancer := startHAProxy(t, sections...)
	with, without := []port{balancer.ports[0], balancer.ports[2]}, []port{balancer.ports[1], balancer.ports[3]}

	for i, port := range p.ports() {
		if got := dial(t, port.address, "127.0.0.9").rest(t); got != "" {
			t.Errorf("port %s: a client past the load balancer got %q", port.name, got)
		}
		p.waitMetric(t, rejected(port.listener, "proxy_untrusted"), "1")
		c := dial(t, without[i].address, "127.0.0.9")
		c.mustSend(t, "EHLO client.test\r\n")
		if got := c.rest(t); got != "" {
			t.Errorf("port %s: a client without a header got %q", port.name, got)
		}
		eventually(t, "a missing header is counted on "+port.listener, func() bool {
			return p.metric(t, rejected(port.listener, "proxy_missing")) == "1"
		})
	}
	p.waitLog(t, `"level":"WARN"`, "proxy_protocol.trusted", "127.0.0.9")
	p.waitLog(t, `"level":"INFO"`, "does the load balancer send one to this port?")

	var held []*client
	for i, port := range with {
		c := open(t, port, clientOptions{local: fmt.Sprintf("127.0.0.%d", 20+i), serverName: "a.example", trust: certs})
		c.must(t, 250, "EHLO client.test")
		held = append(held, c)
	}
	got := dial(t, with[1].address, "127.0.0.20").rest(t)
	if want := "421 4.7.0 mail.a.example too many connections from your address ("; !strings.HasPrefix(got, want) {
		t.Errorf("a second connection of a client got %q, want %q", got, want)
	}
	for _, c := range held {
		c.mustEnd(t, 221, "QUIT")
	}
	p.requireBalancerShown(t)
}

// requireBalancerShown looks where the operator looks.
func (p *proxy) requireBalancerShown(t *testing.T) {
	t.Helper()
	p.waitLog(t, `"msg":"listening"`, `"proxy_protocol_trusted":["127.0.0.1/32","2001:db8::/32"]`)
	runBinary(t, "check", "--config", p.file, "--offline").requireOutput(t, "implicit, PROXY header of [127.0.0.1/32 2001:db8::/32]")
	_, body := get("http://" + p.admin + "/status.json")
	var status struct {
		Listeners []struct {
			Trusted []string `json:"proxy_protocol_trusted"`
		}
	}
	if err := json.Unmarshal([]byte(body), &status); err != nil {
		t.Fatal(err)
	}
	for _, l := range status.Listeners {
		if fmt.Sprint(l.Trusted) != "[127.0.0.1/32 2001:db8::/32]" {
			t.Errorf("/status.json has %s", body)
		}
	}
}

// TestR86_HealthChecksOfHAProxy of every kind find the proxy up, make no line
// above debug, and reach no backend.
func TestR86_HealthChecksOfHAProxy(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, trusted: "127.0.0.1", logLevel: "debug"})
	ports := p.ports()
	const check = "check inter 50ms fall 1 rise 1 "
	sections := []ahead{
		{of: ports[0], server: check + "send-proxy-v2 check-send-proxy"},
		{of: ports[0], server: check + "send-proxy check-send-proxy"},
		{of: ports[0], server: check + "send-proxy-v2 check-send-proxy check-ssl verify none"},
		{of: ports[1], server: check + "send-proxy-v2 check-send-proxy"},
		{of: ports[1], server: check + "send-proxy check-send-proxy"},
		{of: ports[1], server: check + "send-proxy-v2 check-send-proxy", options: "option smtpchk EHLO haproxy.test"},
		{of: ports[1], server: check + "send-proxy check-send-proxy", options: "option smtpchk EHLO haproxy.test"},
		{of: ports[1], server: check + "send-proxy-v2-ssl check-send-proxy proxy-v2-options crc32c"},
		{of: ports[1], server: check + "send-proxy-v2 port " + strconv.Itoa(portOf(t, ports[1].address))}, // no header in the check
	}
	balancer := startHAProxy(t, sections...)
	for _, port := range ports {
		eventually(t, "there were many health checks of "+port.listener, func() bool {
			n, _ := strconv.Atoi(p.metric(t, fmt.Sprintf("smtp_tlsproxy_connections_total{listener=%q} ", port.listener)))
			return n >= 100
		})
	}
	for i, port := range balancer.ports {
		c := open(t, port, clientOptions{local: "127.0.0.7", serverName: "a.example", trust: certs})
		c.must(t, 250, "EHLO client.test")
		c.mustEnd(t, 221, "QUIT")
		if line := p.waitSession(t, c.local()); line.Outcome != "ok" {
			t.Errorf("%s: %+v", sections[i].server, line)
		}
	}
	if line := lineWith(balancer.logged(), "is DOWN"); line != "" {
		t.Errorf("HAProxy found the proxy down: %s", line)
	}
	balancer.kill()
	p.waitNoConnections(t)
	for line := range strings.Lines(p.logged()) {
		var s sessionLine
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		if s.Client == s.Balancer && s.Outcome == "handshake_failed" || s.Message == "session" && !strings.HasPrefix(s.Client, "127.0.0.7:") && !strings.Contains(line, `"level":"DEBUG"`) ||
			strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, `"level":"ERROR"`) {
			t.Errorf("a health check made the line: %s", line)
		}
	}
	server.mu.Lock()
	defer server.mu.Unlock()
	for _, s := range server.sessions {
		s.mu.Lock()
		if local := len(s.header) > 12 && s.header[12] == 0x20; !local && !bytes.Contains(s.header, []byte{127, 0, 0, 7}) {
			t.Errorf("the backend got a health check with the header %q", s.header)
		}
		s.mu.Unlock()
	}
}
