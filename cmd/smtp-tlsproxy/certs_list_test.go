package main

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// day is one on which certificates are made, so that days left are known.
var day = 24 * time.Hour

// listed makes a site with all that a list can show.
func listed(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	s.issue(t, "b.example", devcert.Leaf{Names: []string{"b.example", "1.b.example", "2.b.example", "3.b.example", "192.0.2.1"}, Lifetime: 10*day + 2*time.Hour})
	old := devcert.Leaf{Names: []string{"c.example"}, Key: devcert.Ed25519, NotBefore: time.Now().Add(-30 * day), Lifetime: 20 * day}
	s.issue(t, "c.example", old)
	if err := os.MkdirAll(filepath.Join(s.certs(), "d.example"), 0o755); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(s.certs(), "c.example", "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.certs(), "b.example", "next-key.pem"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func lines(text string) [][]string {
	var rows [][]string
	for line := range strings.Lines(text) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows
}

func TestCertsList_Lines(t *testing.T) {
	t.Parallel()
	s := listed(t)
	code, stdout, stderr := call(t, "certs", "list", "--config", s.file)
	if code != exitFault || stderr != "" {
		t.Errorf("exit code %d, want %d\n%s", code, exitFault, stderr)
	}
	rows := lines(stdout)
	if len(rows) != 5 {
		t.Fatalf("%d lines, want a header and four domains:\n%s", len(rows), stdout)
	}
	for i, want := range []string{
		"DOMAIN|NAMES|KEY|ISSUER|EXPIRES|DAYS LEFT|STATE|NOTES|FINDINGS",
		"a.example|a.example|ECDSA P-256|test|DATE|89|ok|default|",
		"b.example|b.example 1.b.example 2.b.example and 2 more|ECDSA P-256|test|DATE|10|ok|key staged|",
		"c.example|c.example|Ed25519|test|DATE|-10|warning||warning: " + s.certs() + "/c.example/cert.pem: the certificate expired at ",
		"d.example|-|-|-|-|-|fault||" + s.certs() + "/d.example: no certificate; looked for ",
	} {
		if len(rows[i]) == 9 && i > 0 && i < 4 {
			if _, err := time.Parse(time.DateOnly, rows[i][4]); err != nil {
				t.Error(err)
			}
			rows[i][4] = "DATE"
		}
		if got := strings.Join(rows[i], "|"); !strings.HasPrefix(got, want) || i < 3 && got != want {
			t.Errorf("line %d is\n%s\nwant\n%s", i, got, want)
		}
	}
	_, checked, _ := call(t, "check", "--offline", "--config", s.file)
	for _, row := range rows[3:] { // the findings are those of check
		if finding := row[8]; !strings.Contains(checked, finding+"\n") {
			t.Errorf("check does not find %q:\n%s", finding, checked)
		}
	}
}

func TestCertsList_Order(t *testing.T) {
	t.Parallel()
	s := listed(t)
	for args, want := range map[string]string{
		"--sort expiry": "d.example c.example b.example a.example", "--sort name b.example A.example": "a.example b.example", "b.example --sort expiry b.example": "b.example",
	} {
		_, stdout, _ := call(t, append([]string{"certs", "list", "--certificates", s.certs()}, strings.Fields(args)...)...)
		var got []string
		for _, row := range lines(stdout)[1:] {
			got = append(got, row[0])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", args, got, want)
		}
		var document struct{ Domains []struct{ Domain string } }
		_, stdout, _ = call(t, append([]string{"certs", "list", "--json", "--certificates", s.certs()}, strings.Fields(args)...)...)
		if err := json.Unmarshal([]byte(stdout), &document); err != nil {
			t.Fatalf("%v:\n%s", err, stdout)
		}
		for i, d := range document.Domains {
			if got[i] != d.Domain {
				t.Errorf("%s: in JSON %s is in the place of %s", args, d.Domain, got[i])
			}
		}
	}
}

// TestCertsList_JSON holds the fields that docs/commands.md promises.
func TestCertsList_JSON(t *testing.T) {
	t.Parallel()
	s := listed(t)
	code, stdout, _ := call(t, "certs", "list", "--json", "--config", s.file)
	var document struct {
		Directory string           `json:"directory"`
		Domains   []map[string]any `json:"domains"`
		Faults    []string         `json:"faults"`
	}
	if err := json.Unmarshal([]byte(stdout), &document); err != nil || code != exitFault {
		t.Fatalf("exit code %d, %v:\n%s", code, err, stdout)
	}
	if document.Directory != s.certs() || document.Faults == nil || len(document.Faults) > 0 || len(document.Domains) != 4 {
		t.Errorf("the document is\n%s", stdout)
	}
	page, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	var fields func(prefix string, value any)
	fields = func(prefix string, value any) {
		switch value := value.(type) {
		case map[string]any:
			for name, below := range value {
				if !strings.Contains(string(page), "`"+prefix+name+"`") {
					t.Errorf("docs/commands.md does not tell of %s%s", prefix, name)
				}
				fields(prefix+name+"[].", below)
			}
		case []any:
			for _, each := range value {
				fields(prefix, each)
			}
		}
	}
	for _, d := range document.Domains {
		fields("domains[].", d)
	}
	b := document.Domains[1]
	staged, certificate := b["staged"].([]any)[0].(map[string]any), b["certificates"].([]any)[0].(map[string]any)
	if b["domain"] != "b.example" || b["state"] != "ok" || staged["file"] != "next-key.pem" || staged["key_type"] != "ed25519" ||
		certificate["days_left"] != 10. || len(certificate["names"].([]any)) != 5 || certificate["issuer"] != "CN=test" || certificate["key_bits"] != 256. {
		t.Errorf("b.example is %v", b)
	}
}

func TestCertsList_DefaultIsMissing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.write(t, strings.Replace(s.yaml(), "default: a.example", "default: z.example", 1))
	code, stdout, _ := call(t, "certs", "list", "--config", s.file)
	if want := "fault: " + s.file + `:3:12: the default certificate "z.example" is not among the folders of `; code != exitFault || !strings.Contains(stdout, want) {
		t.Errorf("exit code %d, want %d and %q:\n%s", code, exitFault, want, stdout)
	}
	if code, stdout, _ := call(t, "certs", "list", "--config", s.file, "a.example"); code != exitFine {
		t.Errorf("of a.example alone: exit code %d\n%s", code, stdout)
	}
	if code, stdout, _ := call(t, "certs", "list", "--config", s.file, "z.example"); code != exitFault || !strings.Contains(stdout, "there is no such folder") {
		t.Errorf("of z.example alone: exit code %d\n%s", code, stdout)
	}
}

// TestCertsList_ConflictsAreFaults: a folder's own options that do not go with a
// listener are told here, too.
func TestCertsList_ConflictsAreFaults(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if err := os.WriteFile(filepath.Join(s.certs(), "b.example", "tls.yaml"), []byte("client_auth: {mode: require}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, _ := call(t, "certs", "list", "--config", s.file, "b.example")
	if code != exitFault || !strings.Contains(stdout, "b.example/tls.yaml: with listener submissions: ") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
}

// TestCertsList_HostileFolders: whatever lies in the folders, the list ends, and
// nothing in it reaches a terminal as a control character.
func TestCertsList_HostileFolders(t *testing.T) {
	t.Parallel()
	const evil = "evil\x1b]0;title\x07\u009b31m\u202e"
	ca, err := devcert.NewCA(evil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := ca.WriteFolder(dir, "evil.example", devcert.Leaf{Names: []string{"a\x1b[31m.example", "tab\tline\n.example"}}); err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 4096)
	_, _ = rand.Read(noise)
	for name, fill := range map[string]func(path string) error{
		"noise.example":      func(path string) error { return os.WriteFile(path+"/bundle.pem", noise, 0o600) },
		"empty.example":      func(path string) error { return os.WriteFile(path+"/bundle.pem", nil, 0o600) },
		"loop.example":       func(path string) error { return os.Symlink("bundle.pem", path+"/bundle.pem") },
		"folder.example":     func(path string) error { return os.Mkdir(path+"/bundle.pem", 0o755) },
		"large.example":      func(path string) error { return os.WriteFile(path+"/bundle.pem", make([]byte, 2<<20), 0o600) },
		"yaml.example":       func(path string) error { return os.WriteFile(path+"/tls.yaml", []byte("\x1b[31m: 1"), 0o600) },
		"name\x1b[31m":       func(string) error { return nil },
		"two\nlines.example": func(string) error { return nil },
		"bad\xff.example":    func(string) error { return nil },
		"staged.example":     func(path string) error { return os.Mkdir(path+"/next-key.pem", 0o755) },
		"escapes.example":    func(path string) error { return os.WriteFile(path+"/\x1b[31m.pfx", noise, 0o600) },
	} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := fill(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"certs", "list"}, {"certs", "list", "--json"}, {"certs", "list", "--sort", "expiry"}, {"certs", "tlsa", "evil.example", "noise.example"}} {
		code, stdout, stderr := call(t, append(args, "--certificates", dir)...)
		if code != exitFault || !strings.Contains(stdout, "evil.example") {
			t.Errorf("%q: exit code %d, want %d and evil.example:\n%s%s", args, code, exitFault, stdout, stderr)
		}
		if i := strings.IndexFunc(stdout+stderr, func(r rune) bool {
			return r < ' ' && r != '\n' && r != '\t' || r == '\u009b' || r == '\u202e' || r == '\ufffd'
		}); i >= 0 {
			t.Errorf("%q: a control character at %d of\n%q", args, i, stdout+stderr)
		}
	}
	_, stdout, _ := call(t, "certs", "list", "--certificates", dir)
	if rows := lines(stdout); len(rows) != 13 {
		t.Errorf("%d lines, want a header and 12 folders:\n%s", len(rows), stdout)
	}
}

func TestCerts_WhereTheDirectoryIsFrom(t *testing.T) {
	s, other := newSite(t), newSite(t)
	if err := os.Rename(filepath.Join(other.certs(), "b.example"), filepath.Join(other.certs(), "other.example")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(defaultFile); err == nil {
		t.Fatalf("%s is there: this test needs a machine without it", defaultFile)
	}
	if code, _, stderr := call(t, "certs", "list"); code != exitFault || !strings.Contains(stderr, "--certificates") {
		t.Errorf("exit code %d, want %d and what to name:\n%s", code, exitFault, stderr)
	}
	t.Setenv("SMTP_TLSPROXY_CERTIFICATES", other.certs())
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "other.example"},
		{[]string{"--config", s.file}, "other.example"}, // the environment counts before the file
		{[]string{"--certificates", s.certs()}, "b.example"},
	} {
		code, stdout, stderr := call(t, append([]string{"certs", "list"}, test.args...)...)
		if code != exitFine || !strings.Contains(stdout, "\n"+test.want+"\t") {
			t.Errorf("%q: exit code %d, want %d and %s:\n%s%s", test.args, code, exitFine, test.want, stdout, stderr)
		}
	}
}

func TestCerts_Completion(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, test := range []struct{ args, want string }{
		{"certs list --certificates " + s.certs() + " b", "b.example\n:4\n"},
		{"certs tlsa --config " + s.file + " x", ":4\n"},
		{"certs list --config /does/not/exist a", ":4\n"},
		{"certs list --sort n", "name\n"},
		{"certs generate --key-type e", "ed25519\n"},
		{"compl", "completion\t"},
		{"health", "healthcheck\t"},
	} {
		args := strings.Fields(test.args)
		if code, stdout, _ := call(t, append([]string{"__complete"}, args...)...); code != exitFine || !strings.Contains(stdout, test.want) {
			t.Errorf("%s: exit code %d and %q, want %q", test.args, code, stdout, test.want)
		}
	}
}
