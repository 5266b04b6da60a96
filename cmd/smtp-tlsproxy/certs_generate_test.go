package main

import (
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
)

// generated runs the command and wants it to succeed.
func generated(t *testing.T, dir string, args ...string) string {
	t.Helper()
	code, stdout, stderr := call(t, append([]string{"certs", "generate", "--certificates", dir}, args...)...)
	if code != exitFine || stderr != "" {
		t.Fatalf("exit code %d, want %d\n%s%s", code, exitFine, stdout, stderr)
	}
	return stdout
}

// openssl runs it and returns what it printed.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), need.Program(t, "openssl"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, output)
	}
	return string(output)
}

func loaded(t *testing.T, path, suffix string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(path, "cert"+suffix+".pem"), filepath.Join(path, "key"+suffix+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// TestGenerate_OpenSSLVerifies: clients that trust the authority take what was
// made, for the names that it is for, and the authority can sign no other.
func TestGenerate_OpenSSLVerifies(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "certs")
	for _, kind := range []string{"ecdsa", "rsa", "ed25519"} {
		generated(t, dir, "--key-type", kind, "Mail.example.com", "*.example.net")
	}
	ca := filepath.Join(dir, ".ca", "ca.pem")
	for _, suffix := range []string{"", "-rsa", "-ed25519"} {
		for folder, names := range map[string][]string{"mail.example.com": {"mail.example.com"}, "*.example.net": {"a.example.net", "example.net"}} {
			for _, name := range names {
				openssl(t, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, "-verify_hostname", name, filepath.Join(dir, folder, "cert"+suffix+".pem"))
			}
		}
	}
	if text := openssl(t, "x509", "-in", ca, "-noout", "-ext", "basicConstraints"); !strings.Contains(text, "CA:TRUE, pathlen:0") {
		t.Errorf("the authority is\n%s", text)
	}
	if code, stdout, _ := call(t, "certs", "list", "--certificates", dir); code != exitFine || strings.Contains(stdout, "warning") {
		t.Errorf("there is something wrong with what was made:\n%s", stdout)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "mail.example.com"))
	if err != nil || len(entries) != 6 {
		t.Errorf("the folder has %v, want three pairs", entries)
	}
}

func TestGenerate_RenewsInPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if text := generated(t, dir, "a.example"); !strings.HasPrefix(text, "made ") || !strings.Contains(text, "a new authority") {
		t.Errorf("the first time it says\n%s", text)
	}
	generated(t, dir, "--key-type", "rsa", "a.example")
	first, rsa := loaded(t, dir+"/a.example", ""), loaded(t, dir+"/a.example", "-rsa")
	if text := generated(t, dir, "--days", "7", "a.example"); !strings.HasPrefix(text, "renewed ") || strings.Contains(text, "a new authority") {
		t.Errorf("the second time it says\n%s", text)
	}
	again := loaded(t, dir+"/a.example", "")
	if again.Leaf.Equal(first.Leaf) || !loaded(t, dir+"/a.example", "-rsa").Leaf.Equal(rsa.Leaf) {
		t.Error("not the pair of this key type alone was renewed")
	}
	if left := time.Until(again.Leaf.NotAfter); left > 7*day || left < 6*day {
		t.Errorf("it is valid for %v, want 7 days", left)
	}
}

// TestGenerate_TouchesNoOtherPair: a pair that it did not make stays, byte for
// byte, in whichever layout, and a renewal of its own goes on beside none.
func TestGenerate_TouchesNoOtherPair(t *testing.T) {
	t.Parallel()
	stranger, err := devcert.NewCA("stranger")
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := stranger.Issue(devcert.Leaf{Names: []string{"a.example"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]map[string][]byte{
		"cert.pem":             {"cert.pem": certPEM, "key.pem": keyPEM},
		"certbot":              {"cert.pem": certPEM, "fullchain.pem": certPEM, "privkey.pem": keyPEM},
		"Kubernetes":           {"tls.crt": certPEM, "tls.key": keyPEM},
		"bundle":               {"bundle.pem": append(keyPEM, certPEM...)},
		"PKCS 12":              {"mail.p12": []byte("whatever it is")},
		"half a pair":          {"key.pem": keyPEM},
		"another key type":     {"cert-rsa.pem": certPEM, "key-rsa.pem": keyPEM},
		"an unreadable one":    {"cert.pem": []byte("no PEM"), "key.pem": keyPEM},
		"an unparsable one":    {"cert.pem": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "key.pem": keyPEM},
		"one with another key": {"cert.pem": certPEM, "key.pem": []byte("no key")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "a.example")
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			for file, data := range files {
				if err := os.WriteFile(filepath.Join(path, file), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			code, _, stderr := call(t, "certs", "generate", "--certificates", dir, "a.example")
			if code != exitFault || !strings.Contains(stderr, "--force") {
				t.Errorf("exit code %d, want %d and a word of --force:\n%s", code, exitFault, stderr)
			}
			entries, err := os.ReadDir(path)
			if err != nil || len(entries) != len(files) {
				t.Errorf("the folder has %v", entries)
			}
			for file, data := range files {
				if now, err := os.ReadFile(filepath.Join(path, file)); err != nil || string(now) != string(data) {
					t.Errorf("%s was changed: %v", file, err)
				}
			}
			generated(t, dir, "--force", "a.example")
			loaded(t, path, "")
		})
	}
}

// TestGenerate_FollowsNoLink: a link in the place of a file or a folder leads
// it to write nowhere else.
func TestGenerate_FollowsNoLink(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	generated(t, elsewhere, "b.example")
	victim := filepath.Join(elsewhere, "b.example", "key.pem")
	before, err := os.ReadFile(victim)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(elsewhere, "b.example"), filepath.Join(dir, "b.example")); err != nil {
		t.Fatal(err)
	}
	generated(t, dir, "a.example")
	if err := os.Remove(filepath.Join(dir, "a.example", "key.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(dir, "a.example", "key.pem")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.example", "b.example"} {
		if code, _, stderr := call(t, "certs", "generate", "--certificates", dir, name); code != exitFault {
			t.Errorf("%s: exit code %d, want %d\n%s", name, code, exitFault, stderr)
		}
	}
	generated(t, dir, "--force", "a.example")
	if after, err := os.ReadFile(victim); err != nil || string(after) != string(before) {
		t.Errorf("what the link leads to was changed: %v", err)
	}
	loaded(t, dir+"/a.example", "")
}

func TestGenerate_Refuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"":                           {exitUsage, "requires at least 1 arg"},
		"bücher.example":             {exitUsage, "write xn--bcher-kva.example"},
		"../outside":                 {exitUsage, "not a server name"},
		"/etc":                       {exitUsage, "not a server name"},
		".ca":                        {exitUsage, "not a server name"},
		"192.0.2.1":                  {exitUsage, "not a server name"},
		"a.example --key-type dsa":   {exitUsage, "want ecdsa, rsa or ed25519"},
		"a.example --days 0":         {exitUsage, "want one or more"},
		"a.example --days 4000":      {exitFault, "expires before that"},
		"a.example --days 999999999": {exitFault, "expires before that"},
	} {
		code, stdout, stderr := call(t, append([]string{"certs", "generate", "--certificates", dir}, strings.Fields(args)...)...)
		if code != want.code || stdout != "" || !strings.Contains(stderr, want.text) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s%s", args, code, want.code, want.text, stdout, stderr)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 { // the authority
		t.Errorf("there is %v, want .ca alone", entries)
	}
}

var record = regexp.MustCompile(`(?m)^_(\d+)\._tcp\.(\S+)\. (\d+) IN TLSA 3 1 1 ([0-9a-f]{64})$`)

// TestTLSA_AsOpenSSL: the digests are those that openssl makes of the keys, of
// those served and those staged.
func TestTLSA_AsOpenSSL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	generated(t, dir, "mail.example.com", "*.example.net")
	generated(t, dir, "--key-type", "rsa", "mail.example.com")
	path := filepath.Join(dir, "mail.example.com")
	openssl(t, "genpkey", "-algorithm", "RSA", "-aes-256-cbc", "-pass", "pass:secret", "-out", filepath.Join(path, "next-key-rsa.pem"))
	if err := os.WriteFile(filepath.Join(path, "passphrase"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	digest := func(key string) string {
		der := filepath.Join(t.TempDir(), "public.der")
		openssl(t, "pkey", "-in", key, "-passin", "pass:secret", "-pubout", "-outform", "DER", "-out", der)
		_, hex, _ := strings.Cut(strings.TrimSpace(openssl(t, "dgst", "-sha256", der)), "= ")
		return hex
	}
	var want []string
	for _, file := range []string{"key.pem", "key-rsa.pem", "next-key-rsa.pem"} {
		for _, port := range []string{"25", "465", "587"} {
			want = append(want, "_"+port+"._tcp.mail.example.com. 3600 IN TLSA 3 1 1 "+digest(filepath.Join(path, file)))
		}
	}
	code, stdout, stderr := call(t, "certs", "tlsa", "--certificates", dir, "mail.example.com")
	if got := record.FindAllString(stdout, -1); code != exitFine || stderr != "" || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("exit code %d, and\n%s%s\nwant\n%s", code, stdout, stderr, strings.Join(want, "\n"))
	}
	for line := range strings.Lines(stdout) { // all else is a comment of zone files
		if !record.MatchString(line) && !strings.HasPrefix(line, "; ") {
			t.Errorf("no line of a zone file: %s", line)
		}
	}
	wildcard := digest(filepath.Join(dir, "*.example.net", "key.pem"))
	for args, want := range map[string]string{
		"x.example.net --port 25 --ttl 300":             "_25._tcp.x.example.net. 300 IN TLSA 3 1 1 " + wildcard,
		"*.example.net --host MX.example.org --port 25": "_25._tcp.mx.example.org. 3600 IN TLSA 3 1 1 " + wildcard,
	} {
		code, stdout, stderr := call(t, append([]string{"certs", "tlsa", "--certificates", dir}, strings.Fields(args)...)...)
		if got := record.FindString(stdout); code != exitFine || got != want || strings.Count(stdout, "\n") != 2 {
			t.Errorf("%s: exit code %d, and\n%s%s\nwant\n%s", args, code, stdout, stderr, want)
		}
	}
}

func TestTLSA_Refuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	generated(t, dir, "a.example", "*.w.example")
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"":                                       {exitUsage, "requires at least 1 arg"},
		"*.w.example":                            {exitUsage, "name it with --host"},
		"_.w.example":                            {exitUsage, "name it with --host"},
		"a.example --port 0":                     {exitUsage, "--port 0"},
		"a.example --port 25,65536":              {exitUsage, "--port 65536"},
		"a.example --ttl -1":                     {exitUsage, "--ttl -1"},
		"a.example --host *.example":             {exitUsage, "is a wildcard"},
		"a.example --host bü.example":            {exitUsage, "write xn--b-eha.example"},
		"a.example x.w.example --host b.example": {exitUsage, "one NAME"},
		"b.example":                              {exitFault, "there is no such folder"},
		"x.y.w.example":                          {exitFault, "there is no such folder"},
	} {
		code, stdout, stderr := call(t, append([]string{"certs", "tlsa", "--certificates", dir}, strings.Fields(args)...)...)
		if code != want.code || stdout != "" || !strings.Contains(stderr, want.text) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s%s", args, code, want.code, want.text, stdout, stderr)
		}
	}
}
