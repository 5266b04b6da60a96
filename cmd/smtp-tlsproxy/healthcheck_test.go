package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/freeport"
)

// standIn answers in the place of the admin address.
func standIn(t *testing.T, status int, body string) (address, port string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s, want /readyz", r.URL.Path)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	address = server.Listener.Addr().String()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return address, port
}

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	nobody := freeport.Loopback(t)
	for _, test := range []struct {
		name   string
		status int // of a stand-in; 0 for none
		body   string
		args   string // ADDRESS and PORT stand for the stand-in's
		code   int
		want   string
	}{
		{"ready", 200, `{"ready":true}`, "--admin ADDRESS", exitFine, "ADDRESS is ready"},
		{"on every interface", 200, `{"ready":true}`, "--admin :PORT", exitFine, "is ready"},
		{"on every IPv4 interface", 200, `{"ready":true}`, "--admin 0.0.0.0:PORT", exitFine, "is ready"},
		{"on every IPv6 interface", 200, `{"ready":true}`, "--admin [::]:PORT", exitFine, "is ready"},
		{"not ready", 503, `{"ready":false,"reason":"stopping\u001b[31m"}`, "--admin ADDRESS", exitFault, `ADDRESS is not ready: stopping\x1b[31m`},
		{"another server", 200, "<html>", "--admin ADDRESS", exitFault, "does not answer as smtp-tlsproxy does (HTTP status 200)"},
		{"another that knows no such page", 404, "", "--admin ADDRESS", exitFault, "(HTTP status 404)"},
		{"one that leads elsewhere", 302, "", "--admin ADDRESS", exitFault, "(HTTP status 302)"},
		{"one that says too much", 200, strings.Repeat(" ", 1<<20) + `{"ready":true}`, "--admin ADDRESS", exitFault, "(HTTP status 200)"},
		{"one that contradicts itself", 200, `{"ready":false}`, "--admin ADDRESS", exitFault, "(HTTP status 200)"},
		{"nobody", 0, "", "--admin " + nobody, exitFault, nobody + " does not answer: "},
		{"silence", 0, "", "--timeout 50ms --admin " + silent.Addr().String(), exitFault, "does not answer in time"},
		{"off", 0, "", "--admin off", exitFault, "admin.address is off"},
		{"systemd", 0, "", "--admin systemd:admin", exitFault, "name the address of the socket with --admin"},
		{"no port", 0, "", "--admin localhost", exitFault, "want host:port"},
		{"argument", 0, "", "now", exitUsage, "unknown command"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.status != 0 {
				address, port := standIn(t, test.status, test.body)
				with := strings.NewReplacer("ADDRESS", address, "PORT", port)
				test.args, test.want = with.Replace(test.args), with.Replace(test.want)
			}
			code, stdout, stderr := call(t, append([]string{"healthcheck"}, strings.Fields(test.args)...)...)
			if code != test.code || !strings.Contains(stdout+stderr, test.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, test.code, test.want, stdout, stderr)
			}
			if code != exitUsage && strings.Count(stdout+stderr, "\n") != 1 {
				t.Errorf("not one line: %s%s", stdout, stderr)
			}
		})
	}
}

// TestHealthcheck_WhereToAsk: the environment counts before the file, and a
// file that was spoiled meanwhile makes no proxy that runs look ill.
func TestHealthcheck_WhereToAsk(t *testing.T) {
	address, _ := standIn(t, 200, `{"ready":true}`)
	file := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"the key alone":      fmt.Sprintf("admin: {address: %q}\n", address),
		"a fault elsewhere":  fmt.Sprintf("admin: {address: %q, pprof: 7}\nlisteners: 3\nfoo: bar\n", address),
		"the port is a word": fmt.Sprintf("listeners: [{port: many}]\nadmin:\n  address: %q\n", address),
	} {
		write(text)
		if code, stdout, stderr := call(t, "healthcheck", "--config", file); code != exitFine {
			t.Errorf("%s: exit code %d, want %d\n%s%s", name, code, exitFine, stdout, stderr)
		}
	}
	write("admin: {address: off}\n")
	t.Setenv("SMTP_TLSPROXY_ADMIN", address)
	if code, stdout, stderr := call(t, "healthcheck", "--config", file); code != exitFine {
		t.Errorf("by the environment: exit code %d, want %d\n%s%s", code, exitFine, stdout, stderr)
	}
}
