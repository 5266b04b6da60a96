package test

import (
	"net"
	"strings"
	"testing"
)

// visits are the server names that clients ask for, and the folder that must
// answer each.
var visits = []struct{ name, folder string }{
	{"a.example", "a.example"},
	{"b.example", "b.example"},
	{"c.example", "c.example"},
	{"x.w.example", "*.w.example"},
	{"B.Example", "b.example"},
}

// TestMainJob_CertificatesBySNI lets openssl judge the chain for each name.
func TestMainJob_CertificatesBySNI(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: startRecorder(t, withHeader).address})
	strict := []string{"-brief", "-verify_return_error", "-CAfile", certs.file}
	for _, port := range p.ports() {
		ask := func(t *testing.T, arguments ...string) result {
			t.Helper()
			all := append(append([]string{}, strict...), port.openssl...)
			return sClient(t, port.address, append(all, arguments...)...)
		}
		t.Run(port.name, func(t *testing.T) {
			t.Parallel()
			for _, visit := range visits {
				r := ask(t, "-servername", visit.name, "-verify_hostname", visit.name)
				r.requireCode(t, 0)
				r.requireOutput(t, "Verification: OK", "Verified peername: "+visit.folder, "TLSv1.3")
				r = ask(t, "-servername", visit.name, "-verify_hostname", visit.name, "-tls1_2")
				r.requireCode(t, 0)
				r.requireOutput(t, "Verification: OK", "TLSv1.2")
			}
			for what, arguments := range map[string][]string{
				"no SNI":                        {"-noservername"},
				"an unknown name":               {"-servername", "unknown.test"},
				"two labels under the wildcard": {"-servername", "x.y.w.example"},
				"the wildcard's own base":       {"-servername", "w.example"},
			} {
				r := ask(t, append(arguments, "-verify_hostname", defaultDomain)...)
				if r.code != 0 || !strings.Contains(r.output, "Verified peername: "+defaultDomain) {
					t.Errorf("%s does not get the default certificate:\n%s", what, r.output)
				}
			}
			// The check can fail: this name gets another domain's certificate.
			if r := ask(t, "-servername", "b.example", "-verify_hostname", "c.example"); r.code == 0 {
				t.Errorf("openssl took b.example's certificate for c.example:\n%s", r.output)
			}
		})
	}
}

// TestMainJob_Postfix and TestMainJob_Exim carry mail for every domain over
// both ports; the server must learn the client's own address.
func TestMainJob_Postfix(t *testing.T) {
	t.Parallel()
	need(t, "swaks")
	server := startPostfix(t)
	certs := newCertificates(t)
	for _, version := range []string{"proxy-v1", "proxy-v2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, setup{certificates: certs, backend: server.proxied, clientInfo: version, mx: loopback(t)})
			deliverAll(t, p, server.maildir, func(queueID string) {
				server.waitLog(t, queueID+": client=unknown["+clientAddress+"]")
			})
		})
	}
}

func TestMainJob_Exim(t *testing.T) {
	t.Parallel()
	need(t, "swaks")
	server := startExim(t)
	certs := newCertificates(t)
	for _, version := range []string{"proxy-v1", "proxy-v2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, setup{certificates: certs, backend: server.proxied, clientInfo: version, mx: loopback(t)})
			deliverAll(t, p, server.maildir, func(id string) {
				server.waitLog(t, id+" <= sender@client.test", "["+clientAddress+"]:")
			})
		})
	}
}

// clientAddress is where the clients of these tests come from: an address
// that no program takes by itself.
const clientAddress = "127.0.0.9"

// deliverAll sends a message for each domain over each port. logged gets the
// id that the server gave the message.
func deliverAll(t *testing.T, p *proxy, box maildir, logged func(id string)) {
	t.Helper()
	for _, port := range p.ports() {
		for _, visit := range visits {
			marker := newMarker()
			domain := strings.TrimPrefix(strings.ToLower(visit.name), "x.")
			message := awkwardMessage("user@"+domain, marker)
			arguments := append(swaksMessage(t, message), "--local-interface", clientAddress,
				"--from", "sender@client.test", "--to", "user@"+domain, "--ehlo", "client.test")
			if port.name != plainPort {
				arguments = append(arguments, port.swaksTLS, "--tls-sni", visit.name, "--tls-verify", "--tls-ca-path", p.certificates.file)
			}
			r := swaks(t, port.address, arguments...)
			r.requireCode(t, 0)
			if started := strings.Contains(r.output, "=== TLS started with cipher TLSv1.3"); started == (port.name == plainPort) {
				t.Errorf("port %s: TLS started: %v", port.name, started)
			}
			trace := box.requireDelivered(t, marker, message)
			if !strings.Contains(trace, "["+clientAddress+"]") || !strings.Contains(trace, "client.test") {
				t.Errorf("port %s, %s: the trace fields do not name the client:\n%s", port.name, visit.name, trace)
			}
			logged(acceptedAs(t, r.output))
		}
	}
}

// acceptedAs is the id in the server's reply to the message: "queued as ID"
// (Postfix) or "id=ID" (Exim).
func acceptedAs(t *testing.T, transcript string) string {
	t.Helper()
	for _, before := range []string{"queued as ", "OK id="} {
		if _, after, found := strings.Cut(transcript, before); found {
			return strings.Fields(after)[0]
		}
	}
	t.Fatalf("the server gave the message no id:\n%s", transcript)
	return ""
}

// TestMainJob_SessionLine checks what the proxy logs of a session.
func TestMainJob_SessionLine(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	for i, port := range p.ports() {
		c := open(t, port, clientOptions{local: clientAddress, serverName: "b.example", trust: certs})
		c.must(t, 250, "EHLO "+newMarker())
		c.must(t, 221, "QUIT")
		line := p.waitSession(t, c.local())
		want := sessionLine{
			Message: "session", ID: line.ID, Listener: []string{"submissions", "submission"}[i], Client: c.local(),
			ServerName: "b.example", TLSVersion: "TLSv1.3", Cipher: line.Cipher, Backend: "mta", Outcome: line.Outcome,
		}
		if line != want || line.ID == "" || line.Outcome == "" || !strings.HasPrefix(line.Cipher, "TLS_") {
			t.Errorf("port %s: session line %+v, want %+v", port.name, line, want)
		}
	}
}

// TestR47_ProxyHeaderInsideTLSIsACommand: a client cannot tell the backend
// another address.
func TestR47_ProxyHeaderInsideTLSIsACommand(t *testing.T) {
	t.Parallel()
	server := startPostfix(t)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied})
	for _, port := range p.ports() {
		c := open(t, port, clientOptions{local: clientAddress, serverName: "a.example", trust: certs})
		if err := c.send([]byte("PROXY TCP4 203.0.113.66 203.0.113.1 4711 465\r\n")); err != nil {
			t.Fatal(err)
		}
		reply, _ := c.expect(500)
		if !strings.HasPrefix(reply, "50") {
			t.Errorf("port %s: the reply to PROXY is %q, want 500 or 502", port.name, reply)
		}
		c.must(t, 250, "EHLO client.test")
		c.must(t, 221, "QUIT")
	}
	host, _, err := net.SplitHostPort(server.proxied)
	if err != nil {
		t.Fatal(err)
	}
	if line := lineWith(server.logged(), "203.0.113.66]"); line != "" {
		t.Errorf("Postfix on %s believed the client: %s", host, line)
	}
}
