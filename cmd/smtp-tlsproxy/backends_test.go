package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// secured is the site with a backend of TLS, which names three files in the
// folder, and are made by the site's authority.
func (s *site) secured(t *testing.T, dir string) string {
	t.Helper()
	if err := s.ca.WriteFolder(dir, "", devcert.Leaf{Names: []string{"proxy.example"}}); err != nil {
		t.Fatal(err)
	}
	put(t, s.ca.PEM(), dir, "ca.pem")
	return strings.Replace(s.yaml(), "admin:", fmt.Sprintf(`    tls:
      mode: implicit
      ca: %[1]s/ca.pem
      certificate: %[1]s/cert.pem
      key: %[1]s/key.pem
admin:`, dir), 1)
}

// faultsOfFiles spoil the files that a backend names, each in one way.
var faultsOfFiles = []struct {
	name  string
	spoil func(t *testing.T, s *site, dir string)
	want  []string // "DIR" is the folder
}{
	{"no CA", func(t *testing.T, _ *site, dir string) { remove(t, dir, "ca.pem") },
		[]string{"config.yaml:17:11: tls.ca: DIR/ca.pem: no such file or directory"}},
	{"CA is not PEM", func(t *testing.T, _ *site, dir string) { put(t, []byte("no certificate"), dir, "ca.pem") },
		[]string{"config.yaml:17:11: tls.ca: DIR/ca.pem: "}},
	{"no certificate", func(t *testing.T, _ *site, dir string) { remove(t, dir, "cert.pem") },
		[]string{"config.yaml:18:20: tls.certificate: DIR/cert.pem: no such file or directory"}},
	{"no key", func(t *testing.T, _ *site, dir string) { remove(t, dir, "key.pem") },
		[]string{"config.yaml:19:12: tls.key: DIR/key.pem: no such file or directory"}},
	{"certificate is not PEM", func(t *testing.T, _ *site, dir string) { put(t, []byte("no certificate"), dir, "cert.pem") },
		[]string{"config.yaml:18:20: tls.certificate: DIR/cert.pem with DIR/key.pem: "}},
	{"key of another certificate", func(t *testing.T, s *site, dir string) {
		copyFile(t, filepath.Join(s.certs(), "a.example", "key.pem"), filepath.Join(dir, "key.pem"))
	}, []string{"config.yaml:18:20: tls.certificate: DIR/cert.pem with DIR/key.pem: "}},
	{"neither CA nor key", func(t *testing.T, _ *site, dir string) {
		remove(t, dir, "ca.pem")
		remove(t, dir, "key.pem")
	}, []string{"config.yaml:17:11: tls.ca: DIR/ca.pem: no such file", "config.yaml:19:12: tls.key: DIR/key.pem: no such file"}},
}

func remove(t *testing.T, path ...string) {
	t.Helper()
	if err := os.Remove(filepath.Join(path...)); err != nil {
		t.Fatal(err)
	}
}

// TestFilesOfBackends_Faults: check tells each once, with its place, and serve
// does not start.
func TestFilesOfBackends_Faults(t *testing.T) {
	t.Parallel()
	for _, test := range faultsOfFiles {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, dir := newSite(t), t.TempDir()
			s.write(t, s.secured(t, dir))
			test.spoil(t, s, dir)
			for _, arguments := range [][]string{{"check"}, {"check", "--offline"}, {"serve"}} {
				code, stdout, stderr := call(t, append(arguments, "--config", s.file)...)
				told := stdout + stderr
				if code != exitFault {
					t.Errorf("%v: exit code %d", arguments, code)
				}
				for _, want := range test.want {
					if want = strings.ReplaceAll(want, "DIR", dir); strings.Count(told, want) != 1 {
						t.Errorf("%v: want once %q in:\n%s", arguments, want, told)
					}
				}
				n := strings.Count(told, "config.yaml:") - strings.Count(told, "warning: "+s.file) // of too few file descriptors
				if n != len(test.want) {
					t.Errorf("%v: %d faults, want %d:\n%s", arguments, n, len(test.want), told)
				}
			}
		})
	}
}

// TestFilesOfBackends_Reload: a configuration with such a fault is refused, and
// the one before it serves on; when the file is mended it comes into force by
// itself.
func TestFilesOfBackends_Reload(t *testing.T) {
	t.Parallel()
	for _, test := range faultsOfFiles {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, dir := startServe(t, newSite(t)), t.TempDir()
			text := r.secured(t, dir)
			test.spoil(t, r.site, dir)
			r.write(t, text)
			r.hup()
			for _, want := range test.want {
				r.waitLog(t, "level=ERROR", "the one before it stays in force", strings.ReplaceAll(want, "DIR", dir))
			}
			if _, err := r.send(t, "b.example"); err != nil {
				t.Errorf("after the refusal: %v", err)
			}
			r.secured(t, dir) // writes the files anew
			r.waitLog(t, "configuration reloaded")
			if _, err := r.send(t, "b.example"); err == nil {
				t.Error("a backend without TLS serves though TLS is in force")
			}
		})
	}
}

// TestFilesOfBackends_Reach: with Landlock in force a reload can name only files
// that can be opened.
func TestFilesOfBackends_Reach(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	load := func() *config.Config {
		t.Helper()
		cfg, err := config.Load(s.file)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	within, outside := filepath.Join(s.dir, "backend"), t.TempDir()
	confined := func() *instance {
		i, cfg := new(instance), load()
		i.confined.Store(&confinement{process: cfg.Process, reach: reachOf(source{file: s.file}, cfg)})
		return i
	}
	i := confined()
	s.write(t, s.secured(t, outside))
	err := i.permits(load())
	if err == nil {
		t.Fatalf("the files in %s are permitted", outside)
	}
	for _, want := range []string{"config.yaml:17:11: " + outside + "/ca.pem: ", "config.yaml:18:20: " + outside + "/cert.pem: ", "config.yaml:19:12: " + outside + "/key.pem: "} {
		if !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "can not be widened: restart the program") != 3 {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
	if err := confined().permits(load()); err != nil {
		t.Errorf("named at the start: %v", err)
	}
	s.write(t, s.secured(t, within))
	if err := i.permits(load()); err != nil {
		t.Errorf("beside the configuration file: %v", err)
	}
}
