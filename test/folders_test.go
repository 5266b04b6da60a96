package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// breakages are the ways in which a folder can be unusable; each gets the
// folder with a good pair in it.
var breakages = map[string]func(t *testing.T, certs *certificates, folder string){
	"key-of-another": func(t *testing.T, certs *certificates, folder string) {
		_, key, err := certs.ca.Issue(devcert.Leaf{Names: []string{"other.example"}})
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(folder, "key.pem"), string(key))
	},
	"empty-chain": func(t *testing.T, _ *certificates, folder string) {
		writeFile(t, filepath.Join(folder, "cert.pem"), "")
	},
	"empty-key": func(t *testing.T, _ *certificates, folder string) { writeFile(t, filepath.Join(folder, "key.pem"), "") },
	"no-pem": func(t *testing.T, _ *certificates, folder string) {
		writeFile(t, filepath.Join(folder, "cert.pem"), "not PEM\n")
	},
	"missing-key": func(t *testing.T, _ *certificates, folder string) { mustRemove(t, filepath.Join(folder, "key.pem")) },
	"missing-both": func(t *testing.T, _ *certificates, folder string) {
		mustRemove(t, folder+"/key.pem", folder+"/cert.pem")
	},
	"cut-chain": func(t *testing.T, _ *certificates, folder string) {
		if err := os.Truncate(filepath.Join(folder, "cert.pem"), 300); err != nil {
			t.Fatal(err)
		}
	},
	"key-is-a-folder": func(t *testing.T, _ *certificates, folder string) {
		mustRemove(t, filepath.Join(folder, "key.pem"))
		writeFile(t, filepath.Join(folder, "key.pem", "x"), "")
	},
	"dangling-link": func(t *testing.T, _ *certificates, folder string) {
		mustRemove(t, filepath.Join(folder, "cert.pem"))
		if err := os.Symlink("nowhere.pem", filepath.Join(folder, "cert.pem")); err != nil {
			t.Fatal(err)
		}
	},
	"weak-key": func(t *testing.T, certs *certificates, folder string) {
		if err := certs.ca.WriteFolder(filepath.Dir(folder), filepath.Base(folder), devcert.Leaf{Names: []string{"x"}, Key: devcert.RSA1024}); err != nil {
			t.Fatal(err)
		}
	},
}

func mustRemove(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// brokenFolders adds a broken folder of each kind, and returns their names.
func brokenFolders(t *testing.T, certs *certificates) []string {
	t.Helper()
	var names []string
	for kind, spoil := range breakages {
		name := kind + ".test"
		if err := certs.ca.WriteFolder(certs.dir, name, devcert.Leaf{Names: []string{name}}); err != nil {
			t.Fatal(err)
		}
		spoil(t, certs, filepath.Join(certs.dir, name))
		names = append(names, name)
	}
	return names
}

// TestR28_BrokenFolderHarmsNoOther: its own clients get the default, all
// others what is theirs, at the start and after a reload.
func TestR28_BrokenFolderHarmsNoOther(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	broken := brokenFolders(t, certs)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	look := func() {
		for _, port := range p.ports() {
			for _, name := range broken {
				requireFolder(t, port, name, defaultDomain)
			}
			for _, visit := range visits {
				requireFolder(t, port, visit.name, visit.folder)
			}
		}
	}
	look()
	for _, name := range broken {
		line := p.waitLog(t, `"level":"ERROR"`, `"domain":"`+name+`"`)
		if !strings.Contains(line, filepath.Join(certs.dir, name)) {
			t.Errorf("the log does not name the folder: %s", line)
		}
	}
	p.rewrite(t, p.yaml())
	p.waitLog(t, "configuration reloaded")
	look()
}

// TestR28_LastGoodPairStays when a folder breaks while it is served.
func TestR28_LastGoodPairStays(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	names := make(map[string]func(*testing.T, *certificates, string))
	for kind, spoil := range breakages {
		name := kind + ".test"
		names[name] = spoil
		if err := certs.ca.WriteFolder(certs.dir, name, devcert.Leaf{Names: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	port := p.ports()[0]
	for name := range names {
		requireFolder(t, port, name, name)
	}
	for name, spoil := range names {
		spoil(t, certs, filepath.Join(certs.dir, name))
	}
	for name := range names {
		p.waitLog(t, `"level":"ERROR"`, `"domain":"`+name+`"`)
		requireFolder(t, port, name, name)
	}
	p.rewrite(t, p.yaml()) // a reload does not take it away, either
	p.waitLog(t, "configuration reloaded")
	for name := range names {
		requireFolder(t, port, name, name)
	}
	requireFolder(t, port, "b.example", "b.example")
}

// TestR28_NothingToServe: the proxy does not start, and says what is wrong.
func TestR28_NothingToServe(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		spoil func(t *testing.T, certs *certificates)
		says  []string
	}{
		"a broken default": {
			func(t *testing.T, certs *certificates) {
				writeFile(t, filepath.Join(certs.dir, defaultDomain, "key.pem"), "")
			},
			[]string{"default certificate", defaultDomain, "the private key file is empty"},
		},
		"no default folder": {
			func(t *testing.T, certs *certificates) {
				if err := os.RemoveAll(filepath.Join(certs.dir, defaultDomain)); err != nil {
					t.Fatal(err)
				}
			},
			[]string{"default certificate", filepath.Join("certs", defaultDomain), "b.example c.example"},
		},
		"an empty directory": {
			func(t *testing.T, certs *certificates) {
				if err := os.RemoveAll(certs.dir); err != nil {
					t.Fatal(err)
				}
				ownedDir(t, certs.dir, 0o755, -1, -1)
			},
			[]string{"certificate directory", "no folder to serve"},
		},
		"no directory": {
			func(t *testing.T, certs *certificates) {
				if err := os.RemoveAll(certs.dir); err != nil {
					t.Fatal(err)
				}
			},
			[]string{"certificate directory", "no such file or directory"},
		},
	} {
		certs := newCertificates(t)
		s := setup{certificates: certs, backend: "127.0.0.1:1"}.complete(t)
		test.spoil(t, certs)
		requireNoStart(t, what, s.yaml(), test.says...)
	}
	// Without a default, all folders must be broken.
	certs := newCertificates(t)
	s := setup{certificates: certs, backend: "127.0.0.1:1"}.complete(t)
	for _, name := range append([]string{"*.w.example"}, domains...) {
		if err := os.RemoveAll(filepath.Join(certs.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	broken := brokenFolders(t, certs)
	requireNoStart(t, "broken folders alone", strings.Replace(s.yaml(), ", default: "+defaultDomain, "", 1),
		fmt.Sprintf("none of its %d folders can be served", len(broken)))
}

// requireNoStart wants exit code 1 and words that say why, both of serve and
// of check.
func requireNoStart(t *testing.T, what, text string, says ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, file, text)
	for _, arguments := range [][]string{{"serve"}, {"check", "--offline"}} {
		r := runBinary(t, append(arguments, "--config", file)...)
		if r.code != 1 {
			t.Errorf("%s: exit code %d of %s, want 1\n%s", what, r.code, r.command, indent(r.output))
		}
		if arguments[0] == "serve" {
			r.requireOutput(t, says...)
		}
	}
}

// TestR25_FolderNames: check tells of folders whose name no client can ask
// for, and what to rename them to; serve serves the others.
func TestR25_FolderNames(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	s := setup{certificates: certs, backend: server.address}.complete(t)
	file := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, file, s.yaml())
	check := func() result { return runBinary(t, "check", "--offline", "--config", file) }
	check().requireCode(t, 0)

	wrong := map[string]string{ // folder to what the fault must say
		"Upper.Example":     `"upper.example"`,
		"*.UPPER.example":   `"*.upper.example"`,
		"m\u00fcnchen.test": "xn--",
		"a b.test":          "not a server name",
		"127.0.0.1":         "not a server name",
		"dot.test.":         "not a server name",
		"-hyphen.test":      "not a server name",
		"*.*.test":          "not a server name",
	}
	for folder := range wrong {
		if err := certs.ca.WriteFolder(certs.dir, folder, devcert.Leaf{Names: []string{"x.test"}, Lifetime: 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	r := check()
	r.requireCode(t, 1)
	for folder, says := range wrong {
		if lineWith(r.output, filepath.Join(certs.dir, folder)+":", says) == "" {
			t.Errorf("no fault for %q that says %s in:\n%s", folder, says, indent(r.output))
		}
	}
	p := startProxy(t, s)
	for _, port := range p.ports() {
		requireFolder(t, port, "b.example", "b.example")
		requireFolder(t, port, "upper.example", defaultDomain)
	}
	for folder, says := range wrong {
		p.waitLog(t, `"level":"ERROR"`, strings.Trim(folder, "*"), strings.Trim(says, `"`))
	}
}
