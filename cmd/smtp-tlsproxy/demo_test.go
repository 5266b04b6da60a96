package main

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/freeport"
)

func TestDemoShowsTheMainJob(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := call(t, "demo", "--once", "--submissions-port", "0", "--submission-port", "0", "--mx-port", "0", "--admin-port", strconv.Itoa(freeport.Get(t)))
	if code != exitFine || stderr != "" {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, want := range []string{
		"=== message 1 ===", "=== message 2 ===", "server name  a.localhost", "server name  b.localhost",
		"TLS          TLSv1.3 TLS_AES_128_GCM_SHA256", "The client got the certificate of b.localhost, verified it, and spoke TLSv1.3.",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in:\n%s", want, stdout)
		}
	}
	dir := regexp.MustCompile(`are in (\S+) until`).FindStringSubmatch(stdout)
	if dir == nil {
		t.Fatalf("no folder in:\n%s", stdout)
	}
	if _, err := os.Stat(dir[1]); !os.IsNotExist(err) {
		t.Errorf("the demo left its folder behind: %v", err)
	}
}

func TestDemoWaitsForCtrlC(t *testing.T) {
	t.Parallel()
	out, signals, ended := new(output), make(chan os.Signal, 1), make(chan error, 1)
	go func() { ended <- runDemo(demoOptions{admin: freeport.Get(t)}, out, newLogging(out), signals) }()
	eventually(t, "the demo prints its lines", func() bool { return strings.Contains(out.String(), "Ctrl-C ends the demo.") })
	for _, want := range []string{"swaks --server 127.0.0.1:", "openssl s_client -connect 127.0.0.1:", "curl http://127.0.0.1:"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	signals <- syscall.SIGINT
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDemoTellsOfATakenPort(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, port, _ := strings.Cut(s.backend, ":")
	code, _, stderr := call(t, "demo", "--once", "--submissions-port", port, "--submission-port", "0", "--mx-port", "0", "--admin-port", strconv.Itoa(freeport.Get(t)))
	if code != exitFault || !strings.Contains(stderr, "address already in use") || !strings.Contains(stderr, "The ports can be moved") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}
