package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/demo"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/freeport"
)

func TestMain(m *testing.M) {
	for _, entry := range os.Environ() { // of a machine that runs the program
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, config.Prefix) {
			os.Unsetenv(name)
		}
	}
	goleak.VerifyTestMain(m)
}

// output keeps what a command prints.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// call runs the program and returns its exit code and what it printed.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs output
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"version"}, exitFine, "smtp-tlsproxy ", ""},
		{[]string{"--help"}, exitFine, "Available Commands:", ""},
		{[]string{"check", "--help"}, exitFine, "Check the configuration file", ""},
		{[]string{}, exitFine, "Available Commands:", ""},
		{[]string{"sevre"}, exitUsage, "", `unknown command "sevre"`},
		{[]string{"serve", "--foo"}, exitUsage, "", "unknown flag: --foo"},
		{[]string{"serve", "extra"}, exitUsage, "", `unknown command "extra"`},
		{[]string{"demo", "--admin-port", "many"}, exitUsage, "", "invalid argument"},
		{[]string{"serve", "--config", "/does/not/exist.yaml"}, exitFault, "", "name the configuration file with --config"},
		{[]string{"check", "--config", "/does/not/exist.yaml"}, exitFault, "name the configuration file with --config", ""},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := call(t, test.args...)
			if code != test.code || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) {
				t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", code, test.code, stdout, stderr)
			}
			if test.stdout == "" && stdout != "" || test.stderr == "" && stderr != "" {
				t.Errorf("unexpected output\nstdout: %s\nstderr: %s", stdout, stderr)
			}
		})
	}
}

// site is a configuration with what it names.
type site struct {
	dir, file                      string
	submissions, submission, admin string
	backend                        string
	ca                             *devcert.CA
}

// newSite makes certificates for two domains, and a backend that answers.
func newSite(t *testing.T) *site {
	t.Helper()
	ca, err := devcert.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{dir: t.TempDir(), ca: ca, backend: startBackend(t)}
	s.file = filepath.Join(s.dir, "config.yaml")
	for _, name := range []string{"a.example", "b.example"} {
		s.issue(t, name, devcert.Leaf{Names: []string{name}})
	}
	s.submissions, s.submission, s.admin = freeport.Loopback(t), freeport.Loopback(t), freeport.Loopback(t)
	s.write(t, s.yaml())
	return s
}

func (s *site) certs() string { return filepath.Join(s.dir, "certs") }

func (s *site) issue(t *testing.T, folder string, leaf devcert.Leaf) {
	t.Helper()
	if err := s.ca.WriteFolder(s.certs(), folder, leaf); err != nil {
		t.Fatal(err)
	}
}

func (s *site) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *site) yaml() string {
	return fmt.Sprintf(`certificates:
  directory: certs
  default: a.example
listeners:
  - name: submissions
    address: %q
    mode: implicit
  - name: submission
    address: %q
    mode: starttls
    hostname: mail.a.example
backends:
  mta:
    addresses: [%q]
admin:
  address: %q
timeouts:
  drain: 10s
`, s.submissions, s.submission, s.backend, s.admin)
}

func startBackend(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := demo.NewBackend(io.Discard)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = backend.Serve(listener) // ends with Close
	}()
	t.Cleanup(func() {
		_ = backend.Close()
		<-done
	})
	return listener.Addr().String()
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come true that %s", what)
		}
	}
}
