package test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// checkOf runs check on a configuration with these keys of the tls block.
func checkOf(t *testing.T, s setup, flags ...string) (file string, r result) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, file, s.complete(t).yaml())
	return file, runBinary(t, append([]string{"check", "--offline", "--config", file}, flags...)...)
}

// TestTLSCheck_Faults are refused by check and serve with the place and what
// was meant.
func TestTLSCheck_Faults(t *testing.T) {
	t.Parallel()
	s := setup{certificates: newCertificates(t), backend: "127.0.0.1:1"}
	for _, test := range []struct{ tls, at, says string }{
		{`ciphers: "ECDHE-RSA-AES128-GCM-SHA265"`, `"ECDHE-RSA-AES128-GCM-SHA265"`, `did you mean "ECDHE-RSA-AES128-GCM-SHA256"?`},
		{`ciphers: "HIHG:!aNULL"`, `"HIHG:!aNULL"`, `"HIHG" is not the name of a cipher suite or keyword: did you mean "HIGH"?`},
		{`ciphers: "DHE+AESGCM:CAMELLIA"`, `"DHE+AESGCM:CAMELLIA"`, "no cipher suite remains that Go has; add some, such as ECDHE+AESGCM"},
		{"curves: [X25519, P-265]", "[X25519, P-265]", `did you mean "P-256"?`},
		{"min_version: TLSv1.4", "TLSv1.4", "TLSv1.3"},
		{"profile: modren", "modren", `did you mean "modern"?`},
		{"min_version: TLSv1.3, max_version: TLSv1.2", "TLSv1.3, max", "min_version TLSv1.3 is above max_version TLSv1.2"},
		{"client_auth: {mode: require}", "require}", "client_auth.mode require needs client_auth.ca, client_auth.pins or both"},
		{"client_auth: {mode: request, ca: /nonexistent/ca.pem}", "/nonexistent/ca.pem", "client_auth.ca: open /nonexistent/ca.pem: no such file"},
		{"session_tickets: {lifetime: 1h}", "1h", "has no effect without session_tickets.enabled: true"},
		{"session_tickets: {enabled: true, secret_file: /nonexistent/secret}", "/nonexistent/secret", "no such file"},
		{"key_log_file: /nonexistent/keys", "/nonexistent/keys", "key_log_file: stat /nonexistent: no such file"},
		{"alpn: [smtp, h2]", "[smtp, h2]", "h2"},
	} {
		s.tls = test.tls
		file, r := checkOf(t, s)
		r.requireCode(t, 1)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		line, column := place(string(text), test.at)
		if strings.HasPrefix(test.at, "[") { // place looks behind braces only
			column = strings.Index(strings.Split(string(text), "\n")[line-1], test.at) + 1
		}
		if fault := lineWith(r.output, fmt.Sprintf("%s:%d:%d: ", file, line, column)); !strings.Contains(fault, test.says) {
			t.Errorf("%s: nothing at line %d, column %d says %q:\n%s", test.tls, line, column, test.says, indent(r.output))
		}
		if n := strings.Count(r.output, file+":"); n != 1 { // and not again for each listener
			t.Errorf("%s: %d faults, want 1:\n%s", test.tls, n, indent(r.output))
		}
		runBinary(t, "serve", "--config", file).requireCode(t, 1)
	}
}

// TestTLSCheck_Notes: what is passed over or weak is said, and is no fault.
func TestTLSCheck_Notes(t *testing.T) {
	t.Parallel()
	secret, keys := newSecretFile(t), filepath.Join(t.TempDir(), "keys")
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	for tls, notes := range map[string][]string{
		`ciphers: "ECDHE+AESGCM:DHE-RSA-AES128-GCM-SHA256:CAMELLIA128-SHA"`: {"DHE-RSA-AES128-GCM-SHA256", "CAMELLIA128-SHA"},
		"curves: [X25519, X448]":                                                 {"X448: passed over"},
		`min_version: TLSv1.3, ciphers: HIGH`:                                    {"ciphers has no effect"},
		fmt.Sprintf("session_tickets: {enabled: true, secret_file: %q}", secret): {"tickets can be read by everyone (mode 0644): chmod 0600 it"},
		fmt.Sprintf("key_log_file: %q", keys):                                    {"who can read it can read all mail"},
	} {
		_, r := checkOf(t, setup{certificates: newCertificates(t), backend: "127.0.0.1:1", tls: tls})
		r.requireCode(t, 0)
		for _, note := range notes {
			if lineWith(r.output, "warning: ", note) == "" {
				t.Errorf("%s: no warning has %q:\n%s", tls, note, indent(r.output))
			}
		}
	}
	if isFile(keys) {
		t.Error("check made the key log")
	}
}

// TestTLSCheck_Effective: a listener's options lie over the file's one by one,
// also within groups; check --verbose prints what comes of it, and openssl
// finds the listeners so.
func TestTLSCheck_Effective(t *testing.T) {
	t.Parallel()
	c := newClients(t)
	s := setup{
		certificates: withRSA(t, newCertificates(t)), backend: startRecorder(t, withHeader).address,
		tls: fmt.Sprintf(`max_version: TLSv1.2, ciphers: "ECDHE+AESGCM+AES256", alpn: [lmtp], handshake_timeout: 7s, client_auth: {ca: %q}, `, c.caFile) +
			"session_tickets: {lifetime: 2h, context: base}",
		pairs: []pair{
			{name: "same", tls: ""},
			{name: "field", tls: "alpn: off, client_auth: {mode: require}, session_tickets: {enabled: true, context: own}"},
			{name: "profile", tls: "profile: legacy, curves: [P-256], honor_cipher_order: false, unknown_sni: reject"},
		},
	}
	_, r := checkOf(t, s, "--verbose")
	r.requireCode(t, 0)
	for name, lines := range map[string][]string{
		"same": {"profile       intermediate", "versions      TLSv1.2", "ciphers       ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES256-GCM-SHA384",
			"cipher order  the server's", "ALPN          lmtp (a client that offers only other names is refused)", "unknown SNI   fallback",
			"client certs  none", "resumption    off", "handshake     at most 7s"},
		"field": {"versions      TLSv1.2", "ciphers       ECDHE-ECDSA-AES256-GCM-SHA384, ECDHE-RSA-AES256-GCM-SHA384", "ALPN          off",
			"client certs  require, by " + c.caFile, "resumption    for 2h0m0s, keys from a secret of this process change every 12h0m0s, context own"},
		"profile": {"profile       legacy", "versions      TLSv1, TLSv1.1, TLSv1.2, TLSv1.3", "cipher order  the client's", "curves        P-256 (in this order)",
			"ALPN          lmtp (a client that offers only other names is refused)", "unknown SNI   reject", "handshake     at most 7s"},
	} {
		for _, mode := range []string{"-465", "-587"} {
			_, section, found := strings.Cut(r.output, "\nTLS OF LISTENER "+name+mode+"\n")
			section, _, _ = strings.Cut(section, "\n\n")
			for _, line := range lines {
				if !found || !strings.Contains("\n"+section+"\n", "\n"+line+"\n") {
					t.Errorf("listener %s: no line %q in:\n%s", name+mode, line, indent(section))
				}
			}
		}
	}

	p := startProxy(t, s)
	for name, findings := range map[string][]finding{
		"same":    {finds("", "Protocol version: TLSv1.2", "Ciphersuite: ECDHE-ECDSA-AES256-GCM-SHA384"), alert(noApplicationProtos, "-alpn smtp")},
		"field":   {finds("-alpn smtp "+strings.Join(c.known.arguments, " "), "No ALPN negotiated"), alert(handshakeFailure, "")},
		"profile": {finds("-tls1"+old, "Protocol version: TLSv1"), finds("", "Protocol version: TLSv1.3", "Server Temp Key: ECDH, prime256v1, 256 bits"), alert(unrecognizedName, "-servername unknown.test")},
	} {
		for _, port := range p.portsOf(t, name) {
			for _, f := range findings {
				requireFinding(t, port, f)
			}
		}
	}
}

// TestKeyLog: the file has the secrets of each session, for its owner alone,
// and the log warns of it. A reload goes on with the same file.
func TestKeyLog(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	file := filepath.Join(t.TempDir(), "keys")
	p := startProxy(t, setup{
		certificates: newCertificates(t), backend: startRecorder(t, withHeader).address, tls: fmt.Sprintf("key_log_file: %q", file),
	})
	p.waitLog(t, `"level":"WARN"`, "who can read it can read all mail", file)
	for i, port := range p.ports() {
		theirs := filepath.Join(t.TempDir(), "theirs")
		for _, version := range tlsVersions {
			talk(t, port, version, "-keylogfile", theirs)
		}
		requireSameSecrets(t, file, theirs)
		p.signal(t, syscall.SIGHUP)
		p.waitMetric(t, `smtp_tlsproxy_config_reloads_total{result="success"}`, fmt.Sprint(i+2)) // the start counts
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key log's mode is %v, %v", info.Mode(), err)
	}
}

// requireSameSecrets wants the secrets that openssl saw in the key log.
func requireSameSecrets(t *testing.T, ours, theirs string) {
	t.Helper()
	our, err := os.ReadFile(ours)
	if err != nil {
		t.Fatal(err)
	}
	their, err := os.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]bool)
	for line := range strings.Lines(string(their)) {
		kind, _, _ := strings.Cut(line, " ")
		if strings.HasPrefix(line, "#") || kind == "EXPORTER_SECRET" { // which crypto/tls does not write
			continue
		}
		kinds[kind] = true
		if !strings.Contains(string(our), line) {
			t.Errorf("the key log lacks the %s of a session", kind)
		}
	}
	for _, kind := range []string{"CLIENT_RANDOM", "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0", "CLIENT_TRAFFIC_SECRET_0"} {
		if !kinds[kind] {
			t.Errorf("openssl wrote no %s:\n%s", kind, their)
		}
	}
}

// TestHandshakeTimeout_Own: each listener has its own, with a client that says
// nothing; the one with the longer time is still there to serve.
func TestHandshakeTimeout_Own(t *testing.T) {
	t.Parallel()
	s := setup{certificates: newCertificates(t), backend: startRecorder(t, withHeader).address, tls: "handshake_timeout: 1h"}
	s.pairs = []pair{{name: "short", tls: "handshake_timeout: 1s"}}
	p := startProxy(t, s)
	for i, port := range p.ports() {
		patient := atHandshake(t, port, "")
		short := atHandshake(t, p.portsOf(t, "short")[i], "")
		if rest := short.rest(t); rest != "" {
			t.Errorf("%s: a client that says nothing hears %q", port.listener, rest)
		}
		p.waitMetric(t, handshakeFailures(p.portsOf(t, "short")[i].listener, "timeout"), "1")
		if err := patient.startTLS(clientOptions{serverName: "a.example", trust: s.certificates}.config()); err != nil {
			patient.fatal(t, err)
		}
		if version := patient.conn.(*tls.Conn).ConnectionState().Version; version != tls.VersionTLS13 {
			t.Errorf("%s: TLS %x", port.listener, version)
		}
	}
}
