package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tlsVersions are those whose tickets differ in kind.
var tlsVersions = []string{"-tls1_2", "-tls1_3"}

// saveSession has openssl get a session with its ticket, and returns the file.
func saveSession(t testing.TB, to port, arguments ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "session.pem")
	talk(t, to, append(arguments, "-sess_out", file)...)
	if !isFile(file) {
		t.Fatalf("openssl got no session at %s with %q", to.listener, arguments)
	}
	return file
}

// resumed tells whether openssl, which offers the session, gets it resumed.
// The session has to succeed in any case.
func resumed(t testing.TB, to port, session string, arguments ...string) bool {
	t.Helper()
	r := talk(t, to, append(arguments, "-sess_in", session)...)
	reused := strings.Contains(r.output, "\nReused, TLSv1.")
	if !reused && !strings.Contains(r.output, "\nNew, TLSv1.") {
		t.Fatalf("neither a new nor a resumed session:\n%s", indent(r.output))
	}
	return reused
}

// requireResumed wants a session to be resumed, or not.
func requireResumed(t testing.TB, want bool, to port, session string, arguments ...string) {
	t.Helper()
	if got := resumed(t, to, session, arguments...); got != want {
		t.Errorf("%s with %q: resumed is %v, want %v", to.listener, arguments, got, want)
	}
}

// newSecretFile is a secret for replicas to share.
func newSecretFile(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tickets")
	writeFile(t, file, newSecret()+"\n")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// newSecret is a line of a secret file.
func newSecret() string { return strings.Repeat(newMarker(), 4) }

// TestR34_A_NoTicketsByDefault: no NewSessionTicket goes out, which Outlook.com
// could drop the handshake for, and nothing resumes, by ticket or session id.
func TestR34_A_NoTicketsByDefault(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	s := setup{certificates: newCertificates(t), backend: startRecorder(t, withHeader).address}
	s.pairs = []pair{{name: "on", tls: "session_tickets: {enabled: true}"}}
	p := startProxy(t, s)
	for i, port := range p.ports() {
		for _, version := range tlsVersions {
			r := talk(t, port, version, "-msg", "-tlsextdebug")
			if line := lineWith(strings.ToLower(r.output), "ticket"); strings.Contains(r.output, "NewSessionTicket") || strings.Contains(line, "server extension") {
				t.Errorf("%s %s: the server sends tickets: %s", port.listener, version, line)
			}
			file := filepath.Join(t.TempDir(), "session.pem")
			if talk(t, port, version, "-sess_out", file); isFile(file) {
				t.Errorf("%s %s: openssl got a session to resume", port.listener, version)
			}
			// The check can fail: where tickets are on, it sees them.
			talk(t, p.portsOf(t, "on")[i], version, "-msg").requireOutput(t, "NewSessionTicket")
			session := saveSession(t, p.portsOf(t, "on")[i], version)
			requireResumed(t, false, port, session, version) // nor does a ticket from there
		}
		_, metrics := get("http://" + p.admin + "/metrics")
		if line := lineWith(metrics, "tls_handshakes_total", fmt.Sprintf("listener=%q", port.listener), `resumed="true"`); line != "" {
			t.Errorf("the metrics have %s", line)
		}
	}
}

// TestR34_A_TicketsAreBoundToTheirName: one got under a.example resumes under
// that name, on every listener of the same context, and nowhere else.
func TestR34_A_TicketsAreBoundToTheirName(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	s := setup{certificates: newCertificates(t), backend: startRecorder(t, withHeader).address, tls: "session_tickets: {enabled: true}"}
	s.pairs = []pair{
		{name: "context", tls: "session_tickets: {context: other}"},
		{name: "reject", tls: "unknown_sni: reject"},
		{name: "request", tls: "client_auth: {mode: request}"},
		{name: "off", tls: "session_tickets: {enabled: false}"},
	}
	p := startProxy(t, s)
	for i, port := range p.ports() {
		for _, version := range tlsVersions {
			t.Run(port.name+version, func(t *testing.T) {
				t.Parallel()
				under := func(name string) []string {
					if name == "" {
						return []string{version, "-noservername"}
					}
					return []string{version, "-servername", name}
				}
				session := saveSession(t, port, under("a.example")...)
				for _, same := range append(p.ports(), p.portsOf(t, "reject")[i]) {
					requireResumed(t, true, same, session, under("a.example")...)
				}
				requireResumed(t, true, port, session, under("A.Example")...)
				for _, other := range []string{"b.example", "x.w.example", "unknown.test", ""} {
					requireResumed(t, false, port, session, under(other)...)
				}
				for _, pair := range []string{"context", "request", "off"} {
					requireResumed(t, false, p.portsOf(t, pair)[i], session, under("a.example")...)
				}
				refused(t, p.portsOf(t, "reject")[i], unrecognizedName, append(under("unknown.test"), "-sess_in", session)...)

				for got, others := range map[string][]string{ // names that share a folder
					"x.w.example":  {"y.w.example", ""},
					"unknown.test": {"other.test", "a.example", ""},
					"":             {"unknown.test", "a.example"},
				} {
					session := saveSession(t, port, under(got)...)
					requireResumed(t, true, port, session, under(got)...)
					for _, other := range others {
						requireResumed(t, false, port, session, under(other)...)
					}
				}
			})
		}
	}
}

// TestR35_TicketsKeepTheOptions: the configuration that a folder has of its own
// where sessions resume is no weaker than the listener's, and works (A4).
func TestR35_TicketsKeepTheOptions(t *testing.T) {
	t.Parallel()
	const on = "session_tickets: {enabled: true}"
	requireOptions(t, []option{
		{"defaults", on, []finding{
			alert(protocolVersion, "-tls1_1"+old), alert(handshakeFailure, "-tls1_2 -cipher ECDHE+SHA1:@SECLEVEL=0"+toRSA),
			alert(noApplicationProtos, "-alpn h2"), finds("-alpn smtp", "ALPN protocol: smtp"),
			finds("-tls1_2", "Protocol version: TLSv1.2"), finds("-tls1_3"+toRSA, "Protocol version: TLSv1.3"),
		}},
		{"order", on + `, curves: [P-384, X25519], ciphers: "ECDHE+CHACHA20:ECDHE+AESGCM"`, []finding{
			finds("-tls1_2 -cipher ECDHE+AESGCM:ECDHE+CHACHA20"+toRSA, "Ciphersuite: ECDHE-RSA-CHACHA20-POLY1305", "Server Temp Key: ECDH, secp384r1, 384 bits"),
			finds("-tls1_3 -groups X25519:P-384", "Server Temp Key: ECDH, secp384r1, 384 bits"),
		}},
		{"certificate", on + ", client_auth: {mode: require_any}", []finding{
			alert(handshakeFailure, "-tls1_2"), alert(certificateRequired, "-tls1_3"+toRSA),
		}},
	})
}
