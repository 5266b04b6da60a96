package test

import (
	"encoding/json"
	"strings"
	"testing"
)

// explanation is the log line about a handshake that failed, at level debug.
type explanation struct {
	Message    string `json:"msg"`
	Listener   string
	Why        string
	Versions   string `json:"client_versions"`
	Ciphers    string `json:"client_ciphers"`
	Groups     string `json:"client_groups"`
	Signatures string `json:"client_signatures"`
	ALPN       string `json:"client_alpn"`
}

// explanations are those of a listener.
func (p *proxy) explanations(listener string) []explanation {
	var found []explanation
	for line := range strings.Lines(p.logged()) {
		var e explanation
		if json.Unmarshal([]byte(line), &e) == nil && e.Message == "handshake failed" && e.Listener == listener {
			found = append(found, e)
		}
	}
	return found
}

// TestExplain: at level debug the log says in words what was not shared, ours
// and the client's; the metrics have the reason at every level.
func TestExplain(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	rows := []struct {
		name, tls, arguments string
		alert                int
		reason, why          string
		offered              func(explanation) string
		offer                string
	}{
		{"version", "", "-tls1_1" + old, protocolVersion, "no_shared_version",
			"no shared version: we accept TLSv1.2 to TLSv1.3",
			func(e explanation) string { return e.Versions }, "TLSv1.1 TLSv1"},
		{"suite", `ciphers: "ECDHE+AESGCM+AES256"`, "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", handshakeFailure, "no_shared_cipher",
			"no shared cipher suite: we accept ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-RSA-AES256-GCM-SHA384",
			func(e explanation) string { return e.Ciphers }, "ECDHE-ECDSA-AES128-GCM-SHA256"},
		{"key", "", "-tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", handshakeFailure, "no_shared_cipher",
			"no shared cipher suite that fits the certificate's key",
			func(e explanation) string { return e.Ciphers }, "ECDHE-RSA-AES128-GCM-SHA256"},
		{"group-12", "curves: [P-521, P-384]", "-tls1_2 -groups X25519:P-256", handshakeFailure, "no_shared_cipher",
			"no shared group: we accept P-521 P-384",
			func(e explanation) string { return e.Groups }, "X25519 P-256"},
		{"group-13", "curves: [P-521, P-384]", "-tls1_3 -groups X25519:P-256", handshakeFailure, "no_shared_cipher",
			"no shared group: we accept P-521 P-384",
			func(e explanation) string { return e.Groups }, "X25519 P-256"},
		{"signature-12", "", "-tls1_2 -sigalgs RSA+SHA256:RSA-PSS+SHA256", handshakeFailure, "no_shared_cipher",
			"no signature algorithm",
			func(e explanation) string { return e.Signatures }, "PKCS1WithSHA256 PSSWithSHA256"},
		{"signature-13", "", "-tls1_3 -sigalgs RSA+SHA256:RSA-PSS+SHA256", handshakeFailure, "no_shared_cipher",
			"no signature algorithm",
			func(e explanation) string { return e.Signatures }, "PKCS1WithSHA256 PSSWithSHA256"},
		{"alpn", "", "-alpn h2,imap", noApplicationProtos, "alpn",
			"no shared ALPN name: we accept smtp, esmtp, submission, and clients that offer none",
			func(e explanation) string { return e.ALPN }, "h2 imap"},
		{"certificate", "client_auth: {mode: require_any}", "-tls1_2", handshakeFailure, "client_cert_required",
			"client didn't provide a certificate",
			func(e explanation) string { return e.Versions }, "TLSv1.2"},
	}
	s := setup{certificates: newCertificates(t), backend: startRecorder(t, withHeader).address, logLevel: "debug"}
	for _, row := range rows {
		s.pairs = append(s.pairs, pair{name: row.name, tls: row.tls})
	}
	p := startProxy(t, s)
	t.Run("debug", func(t *testing.T) {
		for _, row := range rows {
			for _, port := range p.portsOf(t, row.name) {
				t.Run(row.name+"/"+port.name, func(t *testing.T) {
					t.Parallel()
					refused(t, port, row.alert, strings.Fields(row.arguments)...)
					p.waitMetric(t, handshakeFailures(port.listener, row.reason), "1")
					var e explanation
					eventually(t, "the log explains the failure", func() bool {
						all := p.explanations(port.listener)
						if len(all) > 0 {
							e = all[0]
						}
						return len(all) > 0
					})
					if !strings.Contains(e.Why, row.why) || !strings.Contains(row.offered(e), row.offer) {
						t.Errorf("the log says %+v; want why %q, and %q offered", e, row.why, row.offer)
					}
				})
			}
		}
	})
	requireUnexplained(t, p)
}

// requireUnexplained: at level info it is one line for each session.
func requireUnexplained(t *testing.T, p *proxy) {
	t.Helper()
	p.setup.logLevel = "info"
	p.rewrite(t, p.yaml())
	p.waitLog(t, "configuration reloaded")
	port := p.ports()[0]
	refused(t, port, protocolVersion, strings.Fields("-tls1_1"+old)...)
	p.waitLog(t, `"msg":"session"`, `"listener":"`+port.listener+`"`)
	if all := p.explanations(port.listener); len(all) > 0 {
		t.Errorf("at level info the log has %+v", all)
	}
}
