package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// What a session may cost that only waits. The bounds are above what was
// measured, and below twice as much.
const (
	idlePSS         = 64 << 10 // bytes of the machine's memory; measured are 40 to 45 kB
	idleInUse       = 40 << 10 // bytes that can not be freed; measured are 31 to 32 kB
	idleGoroutines  = 2.1      // one for each direction
	idleDescriptors = 2.1      // one for the client and one for the backend
)

// TestR81_IdleSessions: each session that waits takes a bounded amount of
// memory and goroutines, and leaves nothing of it behind.
func TestR81_IdleSessions(t *testing.T) {
	t.Parallel()
	const sessions = 500
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	// Without GOGC a heap of less than 64 MB is not collected, and what the
	// handshakes leave behind would hide what the sessions hold.
	p := startWithoutRace(t, setup{certificates: certs, backend: server.address, limits: manyHandshakes + ", connections: 1200, connections_per_client: 1200", environment: []string{"GOGC=100"}})
	resting, inUse := restAfterUse(t, p)
	pss := p.pss(t)

	var clients []*client
	for i := range sessions {
		c := open(t, p.ports()[i%2], clientOptions{serverName: "b.example", trust: certs})
		c.must(t, 250, "EHLO client.test")
		clients = append(clients, c)
	}
	for what, cost := range map[string]struct{ each, most float64 }{
		"memory (PSS)":     {(p.pss(t) - pss) / sessions, idlePSS}, // before the heap is collected
		"memory in use":    {(p.inUse(t) - inUse) / sessions, idleInUse},
		"go_goroutines":    {(p.value(t, "go_goroutines") - resting["go_goroutines"]) / sessions, idleGoroutines},
		"file descriptors": {(p.value(t, "process_open_fds") - resting["process_open_fds"]) / sessions, idleDescriptors},
	} {
		t.Logf("%s: %.2f for each idle session", what, cost.each)
		if cost.each > cost.most {
			t.Errorf("%s: each idle session takes %.2f, more than %.2f", what, cost.each, cost.most)
		}
	}
	for _, c := range clients {
		c.mustEnd(t, 221, "QUIT")
	}
	requireRest(t, p, resting, inUse)
}

// startWithoutRace is startProxy with the program as it is released: the race
// detector takes many times the memory.
func startWithoutRace(t testing.TB, s setup) *proxy {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "smtp-tlsproxy")
	need(t, "go")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/smtp-tlsproxy")
	build.Dir = ".."
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, output)
	}
	p := &proxy{setup: s.complete(t), file: filepath.Join(dir, "config.yaml")}
	writeFile(t, p.file, p.yaml())
	serve := exec.Command(binary, "serve", "--config", p.file)
	serve.Env = append(os.Environ(), s.environment...)
	p.process = startProcess(t, "smtp-tlsproxy serve", filepath.Join(dir, "smtp-tlsproxy.log"), serve)
	t.Cleanup(func() { p.requireCleanEnd(t) })
	p.waitReady(t)
	return p
}

// pss is the proportional set size of the process in bytes.
func (p *process) pss(t testing.TB) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(lineWith(string(text), "Pss:"))
	kB, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return float64(kB << 10)
}
