package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestR89_UnknownClients: a Postfix that knows no PROXY header and relays for
// nobody gets mail of a proxy whom the operator lets leave clients unknown, also
// on an address that strangers reach. Postfix takes them for the proxy, and the
// log warns.
func TestR89_UnknownClients(t *testing.T) {
	t.Parallel()
	server := startPostfix(t, "mynetworks =")
	certs := newCertificates(t)
	anywhere := func() string { return fmt.Sprintf("0.0.0.0:%d", freePort(t)) }
	p := startProxy(t, setup{
		certificates: certs, backend: server.direct, clientInfo: "none", backendKeys: "allow_unknown_clients: true",
		submissions: anywhere(), submission: anywhere(), mx: anywhere(),
	})
	p.waitLog(t, `"level":"WARN"`, "the backend takes every client for the proxy itself", `"backend":"mta"`)
	for _, port := range p.ports() {
		port.address = fmt.Sprintf("127.0.0.1:%d", portOf(t, port.address))
		c := open(t, port, clientOptions{local: clientAddress, serverName: "a.example", trust: certs})
		marker := newMarker()
		if err := c.sendMessage(marker); err != nil {
			c.fatal(t, err)
		}
		if trace, _ := splitTrace(server.waitMessage(t, marker)); !strings.Contains(string(trace), "from client.test (unknown [127.0.0.1])") {
			t.Errorf("port %s: the trace fields do not name the proxy:\n%s", port.name, trace)
		}
		c = open(t, port, clientOptions{local: clientAddress, serverName: "a.example", trust: certs})
		c.must(t, 250, "EHLO client.test")
		c.must(t, 250, "MAIL FROM:<sender@client.test>")
		c.must(t, 554, "RCPT TO:<user@elsewhere.test>") // as Postfix was told
		c.mustEnd(t, 221, "QUIT")
	}
	runBinary(t, "check", "--config", p.file).requireCode(t, 0)
}

// TestR89_UnknownClientsAreRefused where strangers can connect, unless they were
// allowed: the backend might relay for all. It does not matter whether a
// listener or a route leads there.
func TestR89_UnknownClientsAreRefused(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	const why = `"none" would make the backend take every client of listener submission for the proxy itself, and it might relay for all: ` +
		"want proxy-v2, proxy-v1 or xclient, or allow_unknown_clients: true"
	told := setup{certificates: certs, backend: loopback(t)}
	unknown := told
	unknown.clientInfo = "none"
	routed := told
	routed.backends, routed.routes = fmt.Sprintf("old: {addresses: [%q], client_info: none}", loopback(t)), "[{server_names: [b.example], backend: old}]"
	for name, s := range map[string]setup{"of a listener": unknown, "of a route": routed} {
		for _, address := range []string{"0.0.0.0", "[::]", "192.0.2.1"} {
			s := s
			s.submission = fmt.Sprintf("%s:%d", address, freePort(t))
			file := filepath.Join(t.TempDir(), "config.yaml")
			writeFile(t, file, s.complete(t).yaml())
			for _, command := range []string{"check", "serve"} {
				r := runBinary(t, command, "--config", file)
				r.requireCode(t, 1)
				if line := lineWith(r.output, file+":", why); line == "" {
					t.Errorf("%s, %s: %s does not say why:\n%s", name, address, command, indent(r.output))
				}
			}
		}
		// On loopback there are no strangers.
		_, r := checkOf(t, s)
		r.requireCode(t, 0)
	}
}

// TestR89_UnknownClientsComeWithNoReload: the proxy goes on telling who clients
// are.
func TestR89_UnknownClientsComeWithNoReload(t *testing.T) {
	t.Parallel()
	server := startPostfix(t)
	certs := newCertificates(t)
	p := startProxy(t, setup{
		certificates: certs, backend: server.proxied, submission: fmt.Sprintf("0.0.0.0:%d", freePort(t)),
	})
	p.rewrite(t, strings.Replace(p.yaml(), "client_info: proxy-v2", "client_info: none", 1))
	p.waitLog(t, "configuration refused", "it might relay for all")
	marker := newMarker()
	c := open(t, p.ports()[0], clientOptions{local: clientAddress, serverName: "a.example", trust: certs})
	if err := c.sendMessage(marker); err != nil {
		c.fatal(t, err)
	}
	if trace, _ := splitTrace(server.waitMessage(t, marker)); !strings.Contains(string(trace), "["+clientAddress+"]") {
		t.Errorf("the trace fields do not name the client:\n%s", trace)
	}
}
