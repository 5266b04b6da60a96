package test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestR34_TicketsEndWithTheirFolder: who got one under a name that is no
// longer served is met as anybody with an unknown name. When the folder is
// back, so is its name's session.
func TestR34_TicketsEndWithTheirFolder(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	certs := newCertificates(t)
	s := setup{certificates: certs, backend: startRecorder(t, withHeader).address, tls: "session_tickets: {enabled: true}"}
	s.pairs = []pair{{name: "reject", tls: "unknown_sni: reject"}}
	p := startProxy(t, s)
	sessions := make(map[string]string)
	for _, version := range tlsVersions {
		sessions[version] = saveSession(t, p.ports()[0], version, "-servername", "c.example")
		requireResumed(t, true, p.ports()[1], sessions[version], version, "-servername", "c.example")
	}
	folder, aside := filepath.Join(certs.dir, "c.example"), filepath.Join(t.TempDir(), "c.example")
	if err := os.Rename(folder, aside); err != nil {
		t.Fatal(err)
	}
	p.waitLog(t, "certificate removed", "c.example")
	for i, port := range p.ports() {
		for _, version := range tlsVersions {
			requireResumed(t, false, port, sessions[version], version, "-servername", "c.example")
			refused(t, p.portsOf(t, "reject")[i], unrecognizedName, version, "-servername", "c.example", "-sess_in", sessions[version])
		}
	}
	if err := os.Rename(aside, folder); err != nil {
		t.Fatal(err)
	}
	for _, version := range tlsVersions {
		eventually(t, "c.example is served again and resumes", func() bool {
			return resumed(t, p.ports()[0], sessions[version], version, "-servername", "c.example")
		})
	}
}

// TestR34_TicketsEndWithTheirLifetime, which counts from the full handshake:
// tickets of a session that was resumed do not put it off.
func TestR34_TicketsEndWithTheirLifetime(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	s := setup{certificates: newCertificates(t), backend: startRecorder(t, withHeader).address, tls: "session_tickets: {enabled: true, lifetime: 2s}"}
	p := startProxy(t, s)
	for _, port := range p.ports() {
		for _, version := range tlsVersions {
			t.Run(port.name+version, func(t *testing.T) {
				t.Parallel()
				session := saveSession(t, port, version)
				eventually(t, "the session does not resume any more", func() bool {
					return !resumed(t, port, session, version, "-sess_out", session)
				})
			})
		}
	}
}

// TestR36_TicketsAreBoundToClientAuth: a session resumes with the identity that
// it began with, and not after who is let in has changed.
func TestR36_TicketsAreBoundToClientAuth(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	oracle, c := startAiosmtpd(t), newClients(t)
	tickets := fmt.Sprintf("session_tickets: {enabled: true, secret_file: %q}", newSecretFile(t))
	authOf := func(settings string) string { return tickets + ", client_auth: {mode: require, " + settings + "}" }
	byCA := authOf(fmt.Sprintf("ca: %q", c.caFile))
	p := startProxy(t, setup{certificates: newCertificates(t), backend: oracle.address, tls: byCA})
	sessions := make(map[string]string)
	for _, version := range tlsVersions {
		sessions[version] = saveSession(t, p.ports()[0], append([]string{version}, c.known.arguments...)...)
	}
	requireIdentity := func(to port, version string) {
		t.Helper()
		marker := newMarker()
		r := runFed(t, strings.NewReader(script(marker)), "openssl", sClientArguments(to, []string{version, "-sess_in", sessions[version]})...)
		r.requireCode(t, 0)
		r.requireOutput(t, "\nReused, ")
		header, _ := oracle.waitSession(t, marker)
		if name, _ := header.tlv("SSL_CN"); name != c.known.commonName {
			t.Errorf("%s %s: the backend hears of %s, want %s", to.listener, version, name, c.known.commonName)
		}
	}
	rules := 0
	reload := func(tls string) {
		t.Helper()
		p.setup.tls = tls
		p.rewrite(t, p.yaml())
		rules++
		p.waitMetric(t, `smtp_tlsproxy_config_reloads_total{result="success"}`, fmt.Sprint(rules+1)) // the start counts
	}
	for _, other := range []string{
		byCA + ", min_version: TLSv1.2", // changes nothing
		authOf(fmt.Sprintf("pins: [%q]", c.other.pin)),
		authOf(fmt.Sprintf("ca: %q, pins: [%q]", c.caFile, c.other.pin)),
		byCA,
	} {
		reload(other)
		for _, port := range p.ports() {
			for i, version := range tlsVersions {
				if !strings.Contains(other, "pins") {
					requireIdentity(port, version)
					continue
				}
				refused(t, port, []int{handshakeFailure, certificateRequired}[i], version, "-sess_in", sessions[version])
			}
		}
	}
	reload(tickets + ", client_auth: {mode: request}") // lets everybody in, and believes no ticket of before
	for _, port := range p.ports() {
		for _, version := range tlsVersions {
			requireResumed(t, false, port, sessions[version], version)
		}
	}
}

// pocket is a client's session cache that offers its one session under every
// name, which crypto/tls's own would not.
type pocket struct{ session *tls.ClientSessionState }

func (p *pocket) Get(string) (*tls.ClientSessionState, bool)    { return p.session, p.session != nil }
func (p *pocket) Put(_ string, session *tls.ClientSessionState) { p.session = session }
func (p *pocket) config(name string, version uint16) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: p}
}

// TestR34_GoClientResumes as openssl does: under its name only.
func TestR34_GoClientResumes(t *testing.T) {
	t.Parallel()
	p := startProxy(t, setup{
		certificates: newCertificates(t), backend: startRecorder(t, withHeader).address, tls: "session_tickets: {enabled: true}",
	})
	visit := func(to port, config *tls.Config) bool {
		t.Helper()
		c := dial(t, to.address, "")
		if err := c.enter(to, config); err != nil {
			c.fatal(t, err)
		}
		c.mustEnd(t, 221, "QUIT") // behind it, the ticket has come
		return c.conn.(*tls.Conn).ConnectionState().DidResume
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, port := range p.ports() {
			var own pocket
			if visit(port, own.config("a.example", version)) || own.session == nil {
				t.Fatalf("%s: resumed at once, or no ticket", port.listener)
			}
			for name, want := range map[string]bool{"a.example": true, "b.example": false, "unknown.test": false, "": false} {
				offered := pocket{own.session}
				if got := visit(port, offered.config(name, version)); got != want {
					t.Errorf("%s, TLS %x, server name %q: resumed is %v, want %v", port.listener, version, name, got, want)
				}
			}
		}
	}
}
