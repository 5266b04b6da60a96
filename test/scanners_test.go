package test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sslscanReport is what sslscan --xml writes.
type sslscanReport struct {
	Protocols []struct {
		Type    string `xml:"type,attr"`
		Version string `xml:"version,attr"`
		Enabled string `xml:"enabled,attr"`
	} `xml:"ssltest>protocol"`
	Renegotiation struct {
		Supported string `xml:"supported,attr"`
	} `xml:"ssltest>renegotiation"`
	Heartbleed []struct {
		Vulnerable string `xml:"vulnerable,attr"`
	} `xml:"ssltest>heartbleed"`
	Ciphers []struct {
		Version string `xml:"sslversion,attr"`
		Name    string `xml:"cipher,attr"`
	} `xml:"ssltest>cipher"`
}

func (r sslscanReport) versions() []string {
	var enabled []string
	for _, p := range r.Protocols {
		if p.Enabled == "1" {
			enabled = append(enabled, p.Type+p.Version)
		}
	}
	return enabled
}

func sslscan(t testing.TB, to port, serverName string) (report sslscanReport) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sslscan.xml")
	arguments := []string{"--xml=" + file, "--sni-name=" + serverName}
	if to.openssl != nil {
		arguments = append(arguments, "--starttls-smtp")
	}
	runProgram(t, "sslscan", append(arguments, to.address)...).requireCode(t, 0)
	data, err := os.ReadFile(file)
	if err == nil {
		err = xml.Unmarshal(data, &report)
	}
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// strongSuites are all that a server may have by default (RFC 9325 section
// 4.2), without the key type.
var strongSuites = []string{
	"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
	"ECDHE-AES128-GCM-SHA256", "ECDHE-AES256-GCM-SHA384", "ECDHE-CHACHA20-POLY1305",
}

// TestR37_Sslscan finds nothing below TLS 1.2 and no weak suite by default,
// with either type of key; and what there is with profile legacy, so that it
// would find it.
func TestR37_Sslscan(t *testing.T) {
	t.Parallel()
	need(t, "sslscan")
	s := setup{certificates: withRSA(t, newCertificates(t)), backend: startRecorder(t, withHeader).address}
	s.pairs = []pair{{name: "legacy", tls: "profile: legacy"}}
	p := startProxy(t, s)
	for i, port := range p.ports() {
		for _, name := range []string{"a.example", "rsa.example"} {
			report := sslscan(t, port, name)
			if got := report.versions(); !slices.Equal(got, []string{"tls1.2", "tls1.3"}) {
				t.Errorf("%s, %s: versions %q", port.listener, name, got)
			}
			if report.Renegotiation.Supported != "0" || len(report.Heartbleed) == 0 {
				t.Errorf("%s, %s: %+v", port.listener, name, report)
			}
			for _, h := range report.Heartbleed {
				if h.Vulnerable != "0" {
					t.Errorf("%s, %s: Heartbleed", port.listener, name)
				}
			}
			var suites []string
			for _, c := range report.Ciphers {
				suites = append(suites, strings.NewReplacer("-ECDSA-", "-", "-RSA-", "-").Replace(c.Name))
			}
			if !slices.Equal(slices.Sorted(slices.Values(suites)), slices.Sorted(slices.Values(strongSuites))) {
				t.Errorf("%s, %s: the suites are %q", port.listener, name, suites)
			}
		}
		legacy := sslscan(t, p.portsOf(t, "legacy")[i], "rsa.example")
		if got := legacy.versions(); !slices.Equal(got, []string{"tls1.0", "tls1.1", "tls1.2", "tls1.3"}) || len(legacy.Ciphers) < 20 {
			t.Errorf("with profile legacy: versions %q, %d suites", got, len(legacy.Ciphers))
		}
	}
}

// testsslFinding is an item of what testssl.sh --jsonfile writes.
type testsslFinding struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Finding  string `json:"finding"`
}

// testssl runs the checks that the flags name. It looks up names for openssl's
// features and may not reach out, so it runs where there is only loopback.
func testssl(t testing.TB, to port, serverName string, checks ...string) map[string]testsslFinding {
	t.Helper()
	file := filepath.Join(t.TempDir(), "testssl.json")
	arguments := append(checks, "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", to.host(t), "--jsonfile", file)
	if to.openssl != nil {
		arguments = append(arguments, "--starttls", "smtp")
	}
	_, number, _ := strings.Cut(to.address, ":")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	r := runUntil(ctx, t, nil, "testssl", append(arguments, serverName+":"+number)...)
	var list []testsslFinding
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", r.command, err, indent(tail(r.output, 30)))
	}
	findings := make(map[string]testsslFinding)
	for _, f := range list {
		findings[f.ID] = f
	}
	return findings
}

// requireNothingFound wants each check to have been made, and no finding.
func requireNothingFound(t *testing.T, findings map[string]testsslFinding) {
	t.Helper()
	for id, want := range map[string]string{
		"SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered", "TLS1_2": "offered", "TLS1_3": "offered",
		"cipherlist_NULL": "not offered", "cipherlist_aNULL": "not offered", "cipherlist_EXPORT": "not offered", "cipherlist_LOW": "not offered",
		"cipherlist_3DES_IDEA": "not offered", "cipherlist_AVERAGE": "not offered", "cipherlist_STRONG": "offered",
		"heartbleed": "not vulnerable", "CCS": "not vulnerable", "ROBOT": "not vulnerable", "secure_renego": "supported",
		"secure_client_renego": "not vulnerable", "CRIME_TLS": "not vulnerable", "POODLE_SSL": "not vulnerable", "SWEET32": "not vulnerable",
		"FREAK": "not vulnerable", "DROWN": "not vulnerable", "LOGJAM": "not vulnerable", "BEAST": "not vulnerable", "LUCKY13": "not vulnerable",
		"RC4": "not vulnerable",
	} {
		if got, found := findings[id]; !found || !strings.HasPrefix(got.Finding, want) {
			t.Errorf("%s: %+v, want %q", id, got, want)
		}
	}
	for id, f := range findings {
		harmless := []string{"OK", "INFO", "DEBUG"}
		if id == "engine_problem" { // of testssl.sh's own openssl
			harmless = append(harmless, "WARN")
		}
		if !slices.Contains(harmless, f.Severity) {
			t.Errorf("%s has the severity %s: %s", id, f.Severity, f.Finding)
		}
	}
}

// TestR37_Testssl: versions, suites and all known vulnerabilities, on implicit
// TLS with an RSA key; and what it says of profile legacy.
func TestR37_Testssl(t *testing.T) {
	t.Parallel()
	need(t, "testssl")
	if !inNamespace(t) {
		return
	}
	p := testsslProxy(t)
	requireNothingFound(t, testssl(t, p.ports()[0], "rsa.example", "-p", "-s", "-U"))
	weak := testssl(t, p.portsOf(t, "legacy")[0], "rsa.example", "-p")
	if f := weak["TLS1"]; f.Severity != "LOW" || !strings.HasPrefix(f.Finding, "offered") {
		t.Errorf("with profile legacy, testssl.sh says of TLS 1.0: %+v", f)
	}
}

// TestR37_TestsslSTARTTLS is the same behind STARTTLS, with an ECDSA key.
func TestR37_TestsslSTARTTLS(t *testing.T) {
	t.Parallel()
	need(t, "testssl")
	if !inNamespace(t) {
		return
	}
	requireNothingFound(t, testssl(t, testsslProxy(t).ports()[1], "a.example", "-p", "-s", "-U"))
}

func testsslProxy(t *testing.T) *proxy {
	t.Helper()
	s := setup{certificates: withRSA(t, newCertificates(t)), backend: startRecorder(t, withHeader).address}
	s.pairs = []pair{{name: "legacy", tls: "profile: legacy"}}
	return startProxy(t, s)
}
