package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// backendModes are the values of tls.mode, with what Postfix needs for each.
var backendModes = map[string]string{
	"implicit": "smtpd_tls_wrappermode = yes",
	"starttls": "smtpd_tls_security_level = encrypt",
}

// backendName is the name in the certificate of Postfix.
const backendName = "postfix.internal.test"

// startSecured starts a Postfix that speaks TLS only, with a certificate of the
// authority.
func startSecured(t *testing.T, certs *certificates, mode string, settings ...string) *postfix {
	t.Helper()
	dir := t.TempDir()
	if err := certs.ca.WriteFolder(dir, "mta", devcert.Leaf{Names: []string{backendName}}); err != nil {
		t.Fatal(err)
	}
	return startPostfix(t, append([]string{
		backendModes[mode], "smtpd_tls_auth_only = yes", "smtpd_tls_loglevel = 1", "smtpd_tls_received_header = yes",
		"smtpd_tls_cert_file = " + filepath.Join(dir, "mta", "cert.pem"), "smtpd_tls_key_file = " + filepath.Join(dir, "mta", "key.pem"),
	}, settings...)...)
}

// securedKeys are the keys of a backend with TLS. A client that connects before
// the first health check leaves it to some more to find the backend out.
func securedKeys(mode, ca string, more ...string) string {
	return fmt.Sprintf("health_check: {interval: 300ms}, tls: {%s}", strings.Join(append([]string{"mode: " + mode, fmt.Sprintf("ca: %q", ca)}, more...), ", "))
}

const ofThatName = "server_name: " + backendName

// TestBackendTLS_Postfix: mail arrives over TLS of the proxy's to a Postfix that
// takes nothing else, behind the PROXY header and with XCLIENT, and Postfix says
// that it came so.
func TestBackendTLS_Postfix(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	for mode := range backendModes {
		for _, info := range []string{"proxy-v1", "proxy-v2", "xclient"} {
			t.Run(mode+"/"+info, func(t *testing.T) {
				t.Parallel()
				server := startSecured(t, certs, mode, knowsXCLIENT...)
				backend, peer := server.proxied, clientAddress
				if info == "xclient" {
					backend, peer = server.direct, "127.0.0.1" // TLS comes before it is told
				}
				p := startProxy(t, setup{
					certificates: certs, backend: backend, clientInfo: info, backendKeys: securedKeys(mode, certs.file, ofThatName), mx: loopback(t),
				})
				for _, port := range p.ports() {
					marker := newMarker()
					c := open(t, port, clientOptions{local: clientAddress, serverName: "a.example", trust: certs})
					if err := c.sendMessage(marker); err != nil {
						c.fatal(t, err)
					}
					trace, _ := splitTrace(server.waitMessage(t, marker))
					for _, want := range []string{"from client.test (unknown [" + clientAddress + "])", "(using TLSv1.3 with cipher TLS_", "(Postfix) with ESMTPS id "} {
						if !strings.Contains(string(trace), want) {
							t.Errorf("port %s: the trace fields have no %q:\n%s", port.name, want, trace)
						}
					}
					server.waitLog(t, fmt.Sprintf("client=unknown[%s]:%d", clientAddress, portOf(t, c.local())))
				}
				server.waitLog(t, "TLS connection established from unknown["+peer+"]", "TLSv1.3")
				runBinary(t, "check", "--config", p.file).requireCode(t, 0)
			})
		}
	}
}

// TestBackendTLS_OwnCertificate: a Postfix that asks for one takes that of the
// proxy, and no mail of a proxy without one.
func TestBackendTLS_OwnCertificate(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	dir := t.TempDir()
	if err := certs.ca.WriteFolder(dir, "proxy", devcert.Leaf{Names: []string{"proxy.internal.test"}}); err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("certificate: %q, key: %q", filepath.Join(dir, "proxy", "cert.pem"), filepath.Join(dir, "proxy", "key.pem"))
	for mode := range backendModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			server := startSecured(t, certs, mode, "smtpd_tls_req_ccert = yes", "smtpd_tls_security_level = encrypt", "smtpd_tls_CAfile = "+certs.file)
			p := startProxy(t, setup{certificates: certs, backend: server.proxied, backendKeys: securedKeys(mode, certs.file, ofThatName, own)})
			for _, port := range p.ports() {
				marker := newMarker()
				if _, err := deliverOnce(port, clientOptions{serverName: "a.example", trust: certs}, marker); err != nil {
					t.Fatalf("port %s: %v", port.name, err)
				}
				if trace, _ := splitTrace(server.waitMessage(t, marker)); !strings.Contains(string(trace), `(Client CN "proxy.internal.test"`) {
					t.Errorf("port %s: the trace fields do not name the proxy:\n%s", port.name, trace)
				}
			}
			server.waitLog(t, "Trusted TLS connection established")
			without := startProxy(t, setup{certificates: certs, backend: server.proxied, backendKeys: securedKeys(mode, certs.file, ofThatName)})
			for _, port := range without.ports() { // the handshake fails, or a command is refused
				accepted, err := deliverOnce(port, clientOptions{serverName: "a.example", trust: certs}, newMarker())
				if accepted || err == nil || !strings.Contains(err.Error(), `reply "421 4.`) {
					t.Errorf("port %s: the client of a proxy without a certificate sees %v, want 421", port.name, err)
				}
			}
		})
	}
}

// TestBackendTLS_AUTH: a Postfix with smtpd_tls_auth_only offers AUTH behind the
// proxy's TLS, and takes it.
func TestBackendTLS_AUTH(t *testing.T) {
	t.Parallel()
	need(t, "dovecot")
	password := "secret-" + newMarker()
	certs := newCertificates(t)
	server := startSecured(t, certs, "implicit", "smtpd_sasl_auth_enable = yes", "smtpd_sasl_type = dovecot", "smtpd_sasl_path = private/auth",
		"smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination")
	startDovecot(t, server, password)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied, backendKeys: securedKeys("implicit", certs.file, ofThatName)})
	for _, port := range p.ports() {
		requireSASL(t, p, port, "PLAIN", saslPlain, password, server)
	}
}

// requireUnavailable wants 421 for the client of each port.
func (p *proxy) requireUnavailable(t *testing.T) {
	t.Helper()
	for _, port := range p.ports() {
		c := dial(t, port.address, clientAddress)
		err := c.enter(port, clientOptions{serverName: "a.example", trust: p.certificates}.config())
		if err == nil {
			err = c.sendMessage(newMarker())
		}
		if err == nil || !strings.Contains(err.Error(), `reply "421 4.3.2 `) {
			t.Errorf("port %s: the client sees %v, want 421", port.name, err)
		}
		if line := p.waitSession(t, c.local()); line.Outcome != "backend_unavailable" {
			t.Errorf("port %s: the outcome is %s", port.name, line.Outcome)
		}
	}
}

// TestBackendTLS_StrangersGetNothing: whoever can not show that it is the backend
// gets no byte of a client's, and log and check say why.
func TestBackendTLS_StrangersGetNothing(t *testing.T) {
	t.Parallel()
	certs, others := newCertificates(t), newCertificates(t)
	pin := "pins: [sha256/" + strings.Repeat("A", 43) + "=]"
	for mode := range backendModes {
		for _, test := range []struct{ name, keys, says string }{
			{"another name", securedKeys(mode, certs.file, "server_name: other.internal.test"), "other.internal.test"},
			{"another authority", securedKeys(mode, others.file, ofThatName), "unknown authority"},
			{"another key", securedKeys(mode, certs.file, ofThatName, pin), "pin"},
		} {
			t.Run(mode+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				server := startSecured(t, certs, mode)
				p := startProxy(t, setup{certificates: certs, backend: server.proxied, backendKeys: test.keys, mx: loopback(t)})
				p.requireUnavailable(t)
				p.waitLog(t, `"level":"WARN"`, "backend does not answer", "TLS to the backend: ", test.says)
				check := runBinary(t, "check", "--config", p.file)
				check.requireCode(t, 1)
				check.requireOutput(t, "backend mta: ", "TLS to the backend: ", test.says)
				for _, passed := range []string{": client=", " mail=", "NOQUEUE"} {
					if line := lineWith(server.logged(), passed); line != "" {
						t.Errorf("a client got through to the stranger: %s", line)
					}
				}
			})
		}
	}
	// A server without TLS gets none either.
	for mode := range backendModes {
		t.Run(mode+"/without TLS", func(t *testing.T) {
			t.Parallel()
			server := startPostfix(t)
			p := startProxy(t, setup{certificates: certs, backend: server.proxied, backendKeys: securedKeys(mode, certs.file, ofThatName), mx: loopback(t)})
			p.requireUnavailable(t)
			runBinary(t, "check", "--config", p.file).requireCode(t, 1)
			for _, passed := range []string{": client=", " mail="} {
				if line := lineWith(server.logged(), passed); line != "" {
					t.Errorf("a client got through without TLS: %s", line)
				}
			}
		})
	}
}

// TestBackendTLS_ChangedAuthorityIsRead: the file counts as the configuration. One
// that can not be read leaves the authorities as they were.
func TestBackendTLS_ChangedAuthorityIsRead(t *testing.T) {
	t.Parallel()
	certs, others := newCertificates(t), newCertificates(t)
	ca := filepath.Join(t.TempDir(), "backend-ca.pem")
	writeFile(t, ca, string(others.ca.PEM()))
	server := startSecured(t, certs, "starttls")
	p := startProxy(t, setup{
		certificates: certs, backend: server.proxied, backendKeys: securedKeys("starttls", ca, ofThatName),
	})
	p.requireUnavailable(t)

	replaceFile(t, ca, string(certs.ca.PEM()))
	p.waitMetric(t, reloads, "2") // the start counts
	p.waitUp(t, server.proxied, "1")
	deliver := func() {
		t.Helper()
		for _, port := range p.ports() {
			marker := newMarker()
			if _, err := deliverOnce(port, clientOptions{serverName: "a.example", trust: certs}, marker); err != nil {
				t.Fatalf("port %s: %v", port.name, err)
			}
			server.waitMessage(t, marker)
		}
	}
	deliver()

	replaceFile(t, ca, "no certificate")
	p.waitLog(t, "configuration refused", "tls.ca: "+ca)
	deliver()
	replaceFile(t, ca, string(others.ca.PEM()))
	p.waitMetric(t, reloads, "3")
	p.waitUp(t, server.proxied, "0")
	p.requireUnavailable(t)
}
