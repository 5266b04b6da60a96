package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

const installCertificate = "../deploy/acme/install-certificate"

// runHook runs the hook as a program that gets certificates does.
func runHook(certs *certificates, environment []string, arguments ...string) (output string, err error) {
	command := exec.Command(installCertificate, arguments...)
	command.Env = append([]string{"PATH=" + os.Getenv("PATH"), "CERTIFICATES=" + certs.dir, "CERTIFICATES_GROUP=" + strconv.Itoa(os.Getegid())}, environment...)
	text, err := command.CombinedOutput()
	return string(text), err
}

// TestHooksInstallCertificates: what each program that gets certificates tells
// its hook leads to the new certificate being served, under each of its names,
// the first time and when it is renewed.
func TestHooksInstallCertificates(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: "127.0.0.1:1", rescan: "1h"})
	for _, hook := range []struct {
		program, chain, key string
		environment         func(chain, key string) []string
	}{
		{"certbot", "fullchain.pem", "privkey.pem", func(chain, _ string) []string { return []string{"RENEWED_LINEAGE=" + filepath.Dir(chain)} }},
		{"lego4", "x.crt", "x.key", func(chain, key string) []string {
			return []string{"LEGO_CERT_PATH=" + chain, "LEGO_CERT_KEY_PATH=" + key}
		}},
		{"lego5", "x.crt", "x.key", func(chain, key string) []string {
			return []string{"LEGO_HOOK_CERT_PATH=" + chain, "LEGO_HOOK_CERT_KEY_PATH=" + key}
		}},
		{"acme", "fullchain.cer", "x.key", func(chain, key string) []string {
			return []string{"CERT_FULLCHAIN_PATH=" + chain, "CERT_KEY_PATH=" + key}
		}},
	} {
		domain := hook.program + ".example"
		for range 2 {
			dir := t.TempDir()
			chain, key, err := certs.ca.Issue(devcert.Leaf{Names: []string{domain, "*." + domain, "mail." + hook.program + ".test"}})
			if err != nil {
				t.Fatal(err)
			}
			chainFile, keyFile := filepath.Join(dir, hook.chain), filepath.Join(dir, hook.key)
			writeFile(t, chainFile, string(chain))
			writeFile(t, keyFile, string(key))
			if output, err := runHook(certs, hook.environment(chainFile, keyFile)); err != nil {
				t.Fatalf("%s: %v\n%s", hook.program, err, output)
			}
			for _, name := range []string{domain, "any." + domain, "mail." + hook.program + ".test"} {
				eventually(t, hook.program+": the new certificate is served for "+name, func() bool {
					serial, err := shakeOnce(p.ports()[0], clientOptions{serverName: name, trust: certs}.config())
					return err == nil && serial == serialOf(t, chain)
				})
			}
		}
		info, err := os.Stat(filepath.Join(certs.dir, domain, "bundle.pem"))
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v; want a file that the group alone reads", hook.program, info.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(certs.dir, ".new*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestHookChangesNothingWhenItFails: what is wrong is said, and what is served stays.
func TestHookChangesNothingWhenItFails(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	certs := newCertificates(t)
	mine, other := filepath.Join(certs.dir, "b.example"), filepath.Join(certs.dir, "c.example")
	newName := t.TempDir()
	fresh := issueInto(t, certs, filepath.Join(newName, "fresh"), "d.example")
	outside := filepath.Join(newName, "outside")
	if err := os.MkdirAll(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	climbing := issueInto(t, certs, filepath.Join(newName, "climbing"), "*./../../"+filepath.Base(newName))
	linked := issueInto(t, certs, filepath.Join(newName, "linked"), "linked.example")
	if err := os.Symlink(outside, filepath.Join(certs.dir, "linked.example")); err != nil {
		t.Fatal(err)
	}
	for want, call := range map[string]struct {
		environment, arguments []string
	}{
		"is not a name for a folder":     {nil, climbing},
		"is a link":                      {nil, linked},
		"is not the key of":              {nil, []string{filepath.Join(mine, "cert.pem"), filepath.Join(other, "key.pem")}},
		"is served in place of bundle":   {nil, []string{filepath.Join(mine, "cert.pem"), filepath.Join(mine, "key.pem")}},
		"neither certbot, lego nor acme": {nil, nil},
		"want no argument, or CHAIN and": {nil, []string{"x"}},
		"No such file":                   {[]string{"RENEWED_LINEAGE=" + certs.dir}, nil},
		"install -d -m 750":              {[]string{"CERTIFICATES=" + filepath.Join(certs.dir, "none")}, fresh},
	} {
		output, err := runHook(certs, call.environment, call.arguments...)
		if err == nil || !strings.Contains(output, want) {
			t.Errorf("%v %v: %v, %q, want %q", call.environment, call.arguments, err, output, want)
		}
	}
	if made, _ := filepath.Glob(filepath.Join(certs.dir, "*", "bundle*")); len(made) > 0 {
		t.Errorf("made: %v", made)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("behind the link: mode %v, %v; want it untouched", info.Mode(), err)
	}
}

// issueInto writes a chain and its key into a new folder, and returns both files.
func issueInto(t *testing.T, certs *certificates, dir, name string) []string {
	t.Helper()
	chain, key, err := certs.ca.Issue(devcert.Leaf{Names: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	chainFile, keyFile := filepath.Join(dir, "chain"), filepath.Join(dir, "key")
	writeFile(t, chainFile, string(chain))
	writeFile(t, keyFile, string(key))
	return []string{chainFile, keyFile}
}
