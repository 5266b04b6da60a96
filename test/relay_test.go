package test

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// TestR49_PostfixIsNotAnOpenRelay: Postfix trusts 127.0.0.0/8 and sees only
// connections from there, since the proxy stands beside it. A client from
// elsewhere must be refused all the same.
func TestR49_PostfixIsNotAnOpenRelay(t *testing.T) {
	need(t, "root", "ip", "postfix", "swaks")
	if !inNamespace(t, "198.51.100.1/32", "198.51.100.7/32", "2001:db8::1/128", "2001:db8::7/128") {
		return
	}
	server := startPostfix(t)
	certs := newCertificates(t)
	for _, network := range []struct{ name, proxy, stranger, friend string }{
		{"IPv4", "198.51.100.1", "198.51.100.7", "127.0.0.9"},
		{"IPv6", "2001:db8::1", "2001:db8::7", "::1"},
	} {
		for _, version := range []string{"proxy-v1", "proxy-v2"} {
			t.Run(network.name+"/"+version, func(t *testing.T) {
				p := startProxy(t, setup{
					certificates: certs, backend: server.proxied, clientInfo: version,
					submissions: net.JoinHostPort(network.proxy, "465"),
					submission:  net.JoinHostPort(network.proxy, "587"),
					mx:          net.JoinHostPort(network.proxy, "25"),
				})
				for _, port := range p.ports() {
					requireRelayDenied(t, server, port, clientOptions{local: network.stranger, serverName: "b.example", trust: certs})
					// The control: the same server relays for its own network.
					requireRelayed(t, port, clientOptions{local: network.friend, serverName: "b.example", trust: certs})
				}
				if network.name == "IPv4" {
					requireSwaksDenied(t, p, network.stranger)
				}
			})
		}
	}
}

func requireRelayDenied(t *testing.T, server *postfix, to port, options clientOptions) {
	t.Helper()
	c := open(t, to, options)
	c.must(t, 250, "EHLO client.test")
	c.must(t, 250, "MAIL FROM:<sender@client.test>")
	foreign := newMarker() + "@elsewhere.test"
	reply := c.must(t, 554, "RCPT TO:<"+foreign+">")
	if !strings.HasPrefix(reply, "554 5.7.1 ") || !strings.Contains(reply, "Relay access denied") {
		t.Errorf("port %s: the reply to RCPT is %q, want 554 5.7.1 … Relay access denied", to.name, reply)
	}
	c.must(t, 250, "RCPT TO:<user@b.example>") // its own domains' mail is welcome
	c.must(t, 221, "QUIT")
	server.waitLog(t, "NOQUEUE: reject: RCPT from unknown["+options.local+"]: 554 5.7.1 <"+foreign+">: Relay access denied")
}

func requireRelayed(t *testing.T, to port, options clientOptions) {
	t.Helper()
	c := open(t, to, options)
	c.mailTo(t, "client.test", "user@elsewhere.test")
	c.must(t, 221, "QUIT")
}

// requireSwaksDenied does it once more with a client that is not ours.
func requireSwaksDenied(t *testing.T, p *proxy, local string) {
	t.Helper()
	for _, port := range p.ports() {
		arguments := []string{"--local-interface", local, "--ehlo", "client.test",
			"--from", "sender@client.test", "--to", "user@elsewhere.test"}
		if port.name != plainPort {
			arguments = append(arguments, port.swaksTLS)
		}
		r := swaks(t, port.address, arguments...)
		r.requireCode(t, 24) // no recipient accepted
		r.requireOutput(t, fmt.Sprintf("554 5.7.1 <%s>: Relay access denied", "user@elsewhere.test"))
	}
}
