package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/probe"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/terminal"
)

// reports are what the golden files show. TLSPROXY_UPDATE=1 writes them anew.
func reports() map[string]*probe.Report {
	at := time.Date(2026, time.November, 24, 12, 0, 0, 0, time.UTC)
	until := at.Add(72 * time.Hour)
	leaf := probe.Certificate{
		Subject: "CN=mail.example.com", Issuer: "CN=An Authority With Quite A Long Name R3,O=Example,C=US", Names: []string{"a.example", "b.example", "c.example", "d.example", "e.example", "f.example", "g.example"}, NameCount: 7,
		Key: "ECDSA P-256", Signature: "SHA256-RSA", NotBefore: at.AddDate(0, 0, -80), NotAfter: at.AddDate(0, 0, 10), DaysLeft: 10, Serial: "1f", SHA256: "00aa", TLSA: "3 1 1 d92b",
	}
	issuer := leaf
	issuer.Subject, issuer.Key, issuer.DaysLeft, issuer.Names = leaf.Issuer, "RSA 4096", 900, nil
	issuer.NameCount = 0
	return map[string]*probe.Report{
		"starttls": {
			Target: probe.Target{Host: "mail.example.com", Port: "587", PortFrom: "given", Mode: probe.STARTTLS, ModeFrom: "port", ServerName: "mail.example.com"},
			Began:  at, Addresses: []string{"192.0.2.1:587"}, LookUp: &probe.Step{Name: "look-up", Outcome: probe.OK, DurationMS: 12.34, Text: "192.0.2.1"},
			Sessions: []probe.Session{{
				Address: "192.0.2.1:587",
				Steps: []probe.Step{
					{Name: "connect", Outcome: probe.OK, DurationMS: 3.5, Text: "192.0.2.1:587"}, {Name: "greeting", Outcome: probe.OK, DurationMS: 10, Text: "220 mail.example.com ESMTP"},
					{Name: "certificate", Outcome: probe.Warn, Text: "the certificate expires in 10 days"},
				},
				Greeting:  &probe.Reply{Code: 220, Lines: []string{"mail.example.com ESMTP"}},
				EHLOPlain: &probe.Reply{Code: 250, Lines: []string{"mail.example.com", "PIPELINING", "SIZE 1000", "STARTTLS"}},
				TLS: &probe.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", Group: "X25519MLKEM768", PostQuantum: true, ServerNameSent: "mail.example.com",
					ALPNOffered: []string{"smtp"}, SessionTicket: true, ClientCertificateRequested: true, OCSP: probe.OCSP{Stapled: true, Good: true, Until: &until}},
				Chain:      []probe.Certificate{leaf, issuer},
				Verified:   &probe.Verification{Verified: true, Roots: "the system's authorities", Path: []string{leaf.Subject, leaf.Issuer, "CN=Root"}},
				EHLOSecure: &probe.Reply{Code: 250, Lines: []string{"mail.example.com", "PIPELINING", "SIZE 2000", "AUTH PLAIN"}},
				Versions:   []probe.VersionTry{{Version: "TLSv1", Text: "alert protocol_version"}, {Version: "TLSv1.3", Accepted: true, Text: "TLS_AES_128_GCM_SHA256"}},
				SNI:        []probe.ServerNameTry{{Accepted: true, Text: "CN=default.example"}, {ServerName: "unknown.invalid", Text: "alert unrecognized_name"}},
				Injection:  &probe.InjectionTry{Text: "dropped: the first reply under TLS was that to QUIT"},
			}},
			Findings: []probe.Finding{{Level: probe.Warn, ID: "expires_soon", Text: "the certificate expires in 10 days", Mend: "look why it was not renewed", Addresses: []string{"192.0.2.1:587"}}},
			Verdict:  probe.Warned,
		},
		"refused": {
			Target: probe.Target{Host: "mail.example.com", Port: "465", PortFrom: "default", Mode: probe.Implicit, ModeFrom: "port", ServerName: "mail.example.com"},
			Began:  at, Addresses: []string{"[2001:db8::1]:465", "192.0.2.1:465"}, LookUp: &probe.Step{Name: "look-up", Outcome: probe.OK, DurationMS: 1, Text: "2001:db8::1, 192.0.2.1"},
			Sessions: []probe.Session{
				{Address: "[2001:db8::1]:465", Steps: []probe.Step{{Name: "connect", Outcome: probe.Fail, DurationMS: 0.2, Text: "[2001:db8::1]:465: there is no route to this address from here"}}},
				{Address: "192.0.2.1:465",
					Steps: []probe.Step{{Name: "connect", Outcome: probe.OK, DurationMS: 3, Text: "192.0.2.1:465"}, {Name: "certificate", Outcome: probe.Fail, Text: "the certificate expired"}},
					TLS:   &probe.TLS{Version: "TLSv1.2", Cipher: "AES128-SHA"}, Chain: []probe.Certificate{issuer},
					EHLOSecure: &probe.Reply{Code: 250, Lines: []string{"mail.example.com", "PIPELINING", "AUTH PLAIN"}},
				},
			},
			Findings: []probe.Finding{
				{Level: probe.Fail, ID: "expired", Text: "the certificate expired", Mend: "renew it", Addresses: []string{"192.0.2.1:465"}},
				{Level: probe.Warn, ID: "connect", Text: "there is no route to this address from here", Addresses: []string{"[2001:db8::1]:465"}},
			},
			Verdict: probe.Refused,
		},
	}
}

func TestProbe_Golden(t *testing.T) {
	t.Parallel()
	for name, report := range reports() {
		for suffix, output := range map[string]func(io.Writer) terminal.Output{".txt": terminal.New, ".colour.txt": terminal.Coloured} {
			var got bytes.Buffer
			if err := printReport(output(&got), report); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", "probe", name+suffix)
			if os.Getenv("TLSPROXY_UPDATE") != "" {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("%s has:\n%s\nand the command prints:\n%s", file, want, &got)
			}
		}
	}
}

// TestProbe_Usage: what is wrong on the command line is told before anything is
// connected to.
func TestProbe_Usage(t *testing.T) {
	t.Parallel()
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	put(t, []byte("nothing"), notPEM)
	for want, args := range map[string][]string{
		"wants one HOST:PORT, and got 0":   {},
		"wants one HOST:PORT, and got 2":   {"a", "b"},
		"not a port":                       {"a:0"},
		"exclude each other":               {"a", "--starttls", "--implicit"},
		"want more than 0":                 {"a", "--timeout", "0s"},
		"--servername: ":                   {"a", "--servername", "b c"},
		"--ehlo: ":                         {"a", "--ehlo", "a\r\nMAIL FROM:<>"},
		"--alpn: ":                         {"a", "--alpn", strings.Repeat("a", 256)},
		"--ca: open /does/not/exist.pem: ": {"a", "--ca", "/does/not/exist.pem"},
		"--ca: " + notPEM + ": ":           {"a", "--ca", notPEM},
	} {
		code, stdout, stderr := call(t, append([]string{"probe"}, args...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, want %q in:\n%s%s", args, code, want, stdout, stderr)
		}
	}
}

// TestProbe_Proxy probes the proxy: what is printed, and the exit codes.
func TestProbe_Proxy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.issue(t, "soon.example", devcert.Leaf{Names: []string{"soon.example"}, Lifetime: 48 * time.Hour})
	startServe(t, s)
	ca := filepath.Join(s.dir, "ca.pem")
	put(t, s.ca.PEM(), ca)
	for _, test := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"implicit", []string{s.submissions, "--implicit", "--servername", "a.example", "--ca", ca}, exitFine,
			[]string{"ok    handshake", "verified for a.example with " + ca, "X25519MLKEM768 (post-quantum)", "AUTH PLAIN", "a mail client accepts this server\n"}},
		{"STARTTLS", []string{s.submission, "--starttls", "--servername", "b.example", "--ca", ca, "--injection", "--sni"}, exitFine,
			[]string{"ok    STARTTLS", "BEFORE TLS", "refused: 503 5.5.1", "another certificate: CN=a.example", "a mail client accepts this server\n"}},
		{"system's authorities", []string{s.submissions, "--implicit", "--servername", "a.example"}, exitFault, []string{"fail  certificate", "give --ca FILE"}},
		{"warning", []string{s.submissions, "--implicit", "--servername", "soon.example", "--ca", ca}, exitFine, []string{"expires in 1 day,", "with warnings"}},
		{"strict", []string{s.submissions, "--implicit", "--servername", "soon.example", "--ca", ca, "--strict"}, exitFault, []string{"expires in 1 day,", "with warnings"}},
		{"wrong mode", []string{s.submission, "--implicit"}, exitFault, []string{"use --starttls", "can not use this server"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := call(t, append([]string{"probe"}, test.args...)...)
			if code != test.code || stderr != "" {
				t.Errorf("exit code %d, want %d\n%s%s", code, test.code, stdout, stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in:\n%s", want, stdout)
				}
			}
			if strings.Contains(stdout, "\x1b") {
				t.Error("colours where no terminal is")
			}
		})
	}
	code, stdout, _ := call(t, "probe", s.submissions, "--implicit", "--servername", "a.example", "--ca", ca, "--json")
	var report probe.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != exitFine || report.Verdict != probe.Accepted || report.Sessions[0].TLS.Version != "TLSv1.3" {
		t.Errorf("exit code %d, %v, verdict %q in:\n%s", code, err, report.Verdict, stdout)
	}
	host, port, _ := net.SplitHostPort(s.submissions)
	if report.Target.Host != host || report.Target.Port != port {
		t.Errorf("target %+v", report.Target)
	}
}
