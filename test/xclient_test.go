package test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// knowsXCLIENT has Postfix take XCLIENT from the proxy, which comes from there,
// and log and say what it then knows.
var knowsXCLIENT = []string{"smtpd_authorized_xclient_hosts = 127.0.0.1", "smtpd_client_port_logging = yes"}

// nameInHosts is the name that /etc/hosts gives to an address, which a look-up
// then gives, too, or what Postfix calls a client without a name.
func nameInHosts(t *testing.T, address string) string {
	t.Helper()
	data, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) > 1 && words[0] == address {
			return words[1]
		}
	}
	return "unknown"
}

// TestR50_PostfixLearnsTheClient by XCLIENT: its address, port and name, and
// its own EHLO, or HELO, however it came.
func TestR50_PostfixLearnsTheClient(t *testing.T) {
	t.Parallel()
	server := startPostfix(t, knowsXCLIENT...)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.direct, clientInfo: "xclient", mx: loopback(t)})
	for _, local := range []string{"127.0.0.1", clientAddress} {
		name := nameInHosts(t, local)
		for _, port := range p.ports() {
			for _, verb := range []string{"EHLO", "HELO"} {
				marker := newMarker()
				helo := marker + ".client.test"
				c := open(t, port, clientOptions{local: local, serverName: "a.example", trust: certs})
				if reply := c.must(t, 250, verb+" "+helo); strings.Contains(reply, "XCLIENT") {
					t.Errorf("port %s: the client is offered XCLIENT: %q", port.name, reply)
				}
				c.must(t, 250, "MAIL FROM:<sender@client.test>")
				c.must(t, 250, "RCPT TO:<user@a.example>")
				c.must(t, 354, "DATA")
				c.must(t, 250, "Subject: "+marker+"\r\n\r\ntext\r\n.")
				c.mustEnd(t, 221, "QUIT")

				server.waitLog(t, fmt.Sprintf(": client=%s[%s]:%d", name, local, portOf(t, c.local())))
				trace, _ := splitTrace(server.waitMessage(t, marker))
				protocol := map[string]string{"EHLO": "ESMTP", "HELO": "SMTP"}[verb]
				for _, want := range []string{fmt.Sprintf("from %s (%s [%s])", helo, name, local), "(Postfix) with " + protocol + " id "} {
					if !strings.Contains(string(trace), want) {
						t.Errorf("port %s: the trace fields have no %q:\n%s", port.name, want, trace)
					}
				}
			}
		}
	}
	// What the proxy said of itself does not count as the client's errors.
	if line := lineWith(server.logged(), "improper command pipelining"); line != "" {
		t.Errorf("Postfix does not like how it was told: %s", line)
	}
}

// TestR50_NoOpenRelayWithXCLIENT: Postfix relays for 127.0.0.0/8, from where
// the proxy comes, and takes its word for who the client is. A client from
// elsewhere is refused, also when it says XCLIENT itself.
func TestR50_NoOpenRelayWithXCLIENT(t *testing.T) {
	need(t, "root", "ip", "postfix", "swaks")
	if !inNamespace(t, "198.51.100.1/32", "198.51.100.7/32", "2001:db8::1/128", "2001:db8::7/128") {
		return
	}
	server := startPostfix(t, knowsXCLIENT[0])
	certs := newCertificates(t)
	for _, network := range []struct{ name, proxy, stranger, friend string }{
		{"IPv4", "198.51.100.1", "198.51.100.7", "127.0.0.9"},
		{"IPv6", "2001:db8::1", "2001:db8::7", "::1"},
	} {
		t.Run(network.name, func(t *testing.T) {
			p := startProxy(t, setup{
				certificates: certs, backend: server.direct, clientInfo: "xclient",
				submissions: net.JoinHostPort(network.proxy, "465"),
				submission:  net.JoinHostPort(network.proxy, "587"),
				mx:          net.JoinHostPort(network.proxy, "25"),
			})
			for _, port := range p.ports() {
				stranger := clientOptions{local: network.stranger, serverName: "b.example", trust: certs}
				requireRelayDenied(t, server, port, stranger)
				requireForgeryRefused(t, port, stranger)
				// The control: the same server relays for its own network.
				requireRelayed(t, port, clientOptions{local: network.friend, serverName: "b.example", trust: certs})
			}
			if network.name == "IPv4" {
				requireSwaksDenied(t, p, network.stranger)
			}
		})
	}
}

// requireForgeryRefused has a client say that it is a friend of the server's.
func requireForgeryRefused(t *testing.T, to port, options clientOptions) {
	t.Helper()
	c := open(t, to, options)
	forgery := "XCLIENT NAME=localhost ADDR=127.0.0.1"
	if to.name == plainPort { // what comes before EHLO is answered by the proxy
		c.must(t, 250, "EHLO client.test")
	}
	c.must(t, 502, forgery)
	c.must(t, 250, "EHLO client.test")
	c.must(t, 502, forgery)
	c.must(t, 250, "MAIL FROM:<sender@client.test>")
	c.must(t, 502, strings.ToLower(forgery))
	c.must(t, 554, "RCPT TO:<user@elsewhere.test>")
	c.mustEnd(t, 221, "QUIT")
}

// TestR50_ProxyMayNotXCLIENT: a Postfix that does not authorize the proxy would
// take each client for it. It gets none, and log and check say what to do.
func TestR50_ProxyMayNotXCLIENT(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{
		"nobody is authorized": nil,
		"others are":           {"smtpd_authorized_xclient_hosts = 192.0.2.0/24"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startPostfix(t, settings...)
			certs := newCertificates(t)
			p := startProxy(t, setup{certificates: certs, backend: server.direct, clientInfo: "xclient", mx: loopback(t)})
			for _, port := range p.ports() {
				c := dial(t, port.address, "")
				err := c.enter(port, clientOptions{serverName: "a.example", trust: certs}.config())
				if err == nil {
					_, err = c.exchange("EHLO client.test", 250)
				}
				if port.name == plainPort && err == nil { // the proxy itself has answered EHLO
					_, err = c.exchange("MAIL FROM:<sender@client.test>", 250)
				}
				if err == nil || !strings.Contains(err.Error(), `reply "421 4.3.2 `) {
					t.Errorf("port %s: the client sees %v, want 421", port.name, err)
				}
				if line := p.waitSession(t, c.local()); line.Outcome != "backend_unavailable" {
					t.Errorf("port %s: the outcome is %s", port.name, line.Outcome)
				}
			}
			const hint = "as Postfix does with smtpd_authorized_xclient_hosts?"
			p.waitLog(t, `"level":"WARN"`, hint)
			check := runBinary(t, "check", "--config", p.file)
			check.requireCode(t, 1)
			check.requireOutput(t, "backend mta: ", "it does not offer XCLIENT with ADDR", hint)
			if line := lineWith(server.logged(), " mail="); line != "" {
				t.Errorf("a client of the proxy reached Postfix: %s", line)
			}
		})
	}
}
