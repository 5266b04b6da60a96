package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/freeport"
)

// patience is how long the tests wait for what must happen soon. Nothing
// waits that long unless something is wrong.
const patience = 20 * time.Second

// process is a program that runs for the length of a test.
type process struct {
	name    string
	command *exec.Cmd
	log     string        // what it wrote, and its own log where it has one
	exited  chan struct{} // closed when it ended; then err holds
	err     error
}

// startProcess runs a command until the end of the test, in a session of its
// own so that its children end with it. Output goes to logFile, which is
// shown where the test fails.
func startProcess(t testing.TB, name, logFile string, command *exec.Cmd) *process {
	t.Helper()
	output, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	p := &process{name: name, command: command, log: logFile, exited: make(chan struct{})}
	if err := command.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		p.err = command.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, indent(tail(p.logged(), 200)))
		}
	})
	return p
}

// kill ends the process and what it started, at first politely.
func (p *process) kill() {
	p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(3 * time.Second):
	}
	syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// signal sends a signal to the process alone.
func (p *process) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatalf("signal %v to %s: %v", signal, p.name, err)
	}
}

// waitExit waits until the process ended and returns its exit code.
func (p *process) waitExit(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.command.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("%s still runs after %v", p.name, limit)
		return -1
	}
}

// logged is what the process has written to its log until now.
func (p *process) logged() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// waitLog waits until the log has all the fragments on one line, and returns
// that line.
func (p *process) waitLog(t testing.TB, fragments ...string) string {
	t.Helper()
	var line string
	eventually(t, fmt.Sprintf("%s logs a line with %q", p.name, fragments), func() bool {
		line = lineWith(p.logged(), fragments...)
		return line != ""
	})
	return line
}

// lineWith is the first line of text that has all the fragments, or "".
func lineWith(text string, fragments ...string) string {
	for line := range strings.Lines(text) {
		all := true
		for _, fragment := range fragments {
			all = all && strings.Contains(line, fragment)
		}
		if all {
			return line
		}
	}
	return ""
}

// eventually polls until ok, and fails the test if that takes too long.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, patience, what, ok)
}

// within polls until ok, and fails the test after limit.
func within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("within %v it did not come true that %s", limit, what)
		}
	}
}

// sharedDir is a temporary folder that other users can reach, as servers that
// drop their privileges need; testing's own is closed to them.
func sharedDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "smtp-tlsproxy-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the test's folder: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// freePort finds a port that nothing listens on, each only once.
func freePort(t testing.TB) int {
	t.Helper()
	return freeport.Get(t)
}

// loopback is a free address on 127.0.0.1.
func loopback(t testing.TB) string {
	t.Helper()
	return freeport.Loopback(t)
}

// portOf is the port of a host:port address.
func portOf(t testing.TB, address string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// waitListening waits until something accepts connections at the address.
func waitListening(t testing.TB, p *process, address string) {
	t.Helper()
	eventually(t, p.name+" listens on "+address, func() bool {
		select {
		case <-p.exited:
			t.Fatalf("%s ended at start: %v", p.name, p.err)
		default:
		}
		connection, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return false
		}
		connection.Close()
		return true
	})
}

func indent(text string) string {
	return "\t" + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n\t")
}

// tail is the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
