package test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"regexp"
	"strings"
	"testing"

	prober "github.com/smtp-tlsproxy/smtp-tlsproxy/internal/probe"
)

// runProbe probes host:port and reads what it tells scripts.
func runProbe(t *testing.T, code int, arguments ...string) *prober.Report {
	t.Helper()
	r := runBinary(t, append([]string{"probe", "--json"}, arguments...)...)
	r.requireCode(t, code)
	report := new(prober.Report)
	if err := json.Unmarshal([]byte(r.output), report); err != nil {
		t.Fatalf("%v in:\n%s", err, r.output)
	}
	return report
}

// requireAsOpenSSL wants the probe to tell of a server what openssl does.
func requireAsOpenSSL(t *testing.T, report *prober.Report, openssl result) {
	t.Helper()
	s := report.Sessions[0]
	if s.TLS == nil || s.Verified == nil || s.EHLOSecure == nil {
		t.Fatalf("the session did not get to EHLO under TLS: %+v", s.Steps)
	}
	line := func(pattern string) string {
		match := regexp.MustCompile(pattern).FindStringSubmatch(openssl.output)
		if match == nil {
			t.Fatalf("openssl prints nothing like %s:\n%s", pattern, indent(openssl.output))
		}
		return match[1]
	}
	if version, cipher := line(`New, (\S+), Cipher`), line(`New, \S+, Cipher is (\S+)`); s.TLS.Version != version || s.TLS.Cipher != cipher {
		t.Errorf("probe: %s, %s; openssl: %s, %s", s.TLS.Version, s.TLS.Cipher, version, cipher)
	}
	if ok := line(`Verify return code: (\d+)`) == "0"; s.Verified.Verified != ok {
		t.Errorf("probe: verified %v, openssl: %v\n%+v", s.Verified.Verified, ok, report.Findings)
	}
	rest, sent := []byte(openssl.output), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		digest := sha256.Sum256(block.Bytes)
		if sent < len(s.Chain) && s.Chain[sent].SHA256 != hex.EncodeToString(digest[:]) {
			t.Errorf("certificate %d is another one than openssl gets", sent+1)
		}
		if sent == 0 {
			r := runFed(t, strings.NewReader(string(pem.EncodeToMemory(block))), "openssl", "x509", "-noout", "-pubkey")
			key, _ := pem.Decode([]byte(r.output))
			digest := sha256.Sum256(key.Bytes)
			if want := "3 1 1 " + hex.EncodeToString(digest[:]); s.Chain[0].TLSA != want {
				t.Errorf("TLSA %s, want %s", s.Chain[0].TLSA, want)
			}
		}
		sent++
	}
	if sent == 0 || sent != len(s.Chain) {
		t.Errorf("probe: %d certificates, openssl: %d", len(s.Chain), sent)
	}
	if tickets := strings.Contains(openssl.output, "session ticket"); s.TLS.SessionTicket != tickets {
		t.Errorf("probe: session ticket %v, openssl: %v", s.TLS.SessionTicket, tickets)
	}
}

// TestProbe_Proxy: what the probe tells of the proxy in front of Postfix is what
// openssl tells, for certificates that are good and that are not.
func TestProbe_Proxy(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	certs := newCertificates(t)
	server := startPostfix(t)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied, backendKeys: "preset: postfix"})
	for _, port := range p.ports() {
		mode := "--implicit"
		if port.openssl != nil {
			mode = "--starttls"
		}
		for name, code := range map[string]int{"b.example": 0, "unknown.test": 1} {
			report := runProbe(t, code, port.address, mode, "--servername", name, "--ca", certs.file, "--sni", "--versions", "--injection")
			requireAsOpenSSL(t, report, talk(t, port, "-showcerts", "-servername", name, "-verify_hostname", name, "-CAfile", certs.file))
			s := report.Sessions[0]
			if name == "b.example" && (s.EHLOSecure.Code != 250 || len(report.Findings) > 1) { // AUTH is not offered, which is told for some ports
				t.Errorf("port %s: findings %+v", port.name, report.Findings)
			}
			for _, v := range s.Versions {
				if modern := v.Version == "TLSv1.2" || v.Version == "TLSv1.3"; v.Accepted != modern {
					t.Errorf("port %s: %+v", port.name, v)
				}
			}
			for _, n := range s.SNI {
				if !n.Accepted || n.Names[0] != defaultDomain {
					t.Errorf("port %s, server name %q: %+v", port.name, n.ServerName, n)
				}
			}
			if s.Injection == nil || s.Injection.Accepted {
				t.Errorf("port %s: injection %+v", port.name, s.Injection)
			}
		}
	}
	report := runProbe(t, 1, p.submission, "--implicit")
	if report.Findings[0].ID != "plain_smtp" {
		t.Errorf("a STARTTLS port that is taken for the other kind: %+v", report.Findings)
	}
}

// TestProbe_Postfix: the same of a Postfix that does its own TLS.
func TestProbe_Postfix(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	certs := newCertificates(t)
	for mode, flag := range map[string]string{"implicit": "--implicit", "starttls": "--starttls"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			server := startSecured(t, certs, mode, "tls_preempt_cipherlist = yes") // else the clients decide
			direct := port{address: server.direct}
			if mode == "starttls" {
				direct.openssl = []string{"-starttls", "smtp"}
			}
			report := runProbe(t, 0, server.direct, flag, "--servername", backendName, "--ca", certs.file, "--injection")
			requireAsOpenSSL(t, report, talk(t, direct, "-showcerts", "-servername", backendName, "-verify_hostname", backendName, "-CAfile", certs.file))
			if i := report.Sessions[0].Injection; i == nil || i.Accepted {
				t.Errorf("injection: %+v", i)
			}
		})
	}
}
