package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// systemd is what a process finds of it: a notify socket, and sockets that are
// passed.
type systemd struct {
	notify  string // path
	mu      sync.Mutex
	told    []string
	sockets []*os.File
	names   []string
}

// startSystemd listens for notifications until the end of the test.
func startSystemd(t testing.TB) *systemd {
	t.Helper()
	s := &systemd{notify: filepath.Join(sharedDir(t), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.told = append(s.told, string(buffer[:n]))
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return s
}

// messages are what was told until now.
func (s *systemd) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.told...)
}

// waitTold waits for a message behind the first n that has the fragment.
func (s *systemd) waitTold(t testing.TB, n int, fragment string) string {
	t.Helper()
	var found string
	eventually(t, fmt.Sprintf("systemd is told %q (it was told %q)", fragment, s.messages()), func() bool {
		for _, message := range s.messages()[n:] {
			if strings.Contains(message, fragment) {
				found = message
				return true
			}
		}
		return false
	})
	return found
}

// listen opens a socket that is passed under the name.
func (s *systemd) listen(t testing.TB, name, address string) string {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false) // as systemd
	l, err := config.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	s.sockets, s.names = append(s.sockets, file), append(s.names, name)
	return l.Addr().String()
}

// start starts the program as systemd does: LISTEN_PID is its own pid, which
// the shell tells it.
func (s *systemd) start(t testing.TB, watchdog time.Duration, arguments ...string) *process {
	t.Helper()
	shell := append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, builtBinary(t)}, arguments...)
	command := exec.Command("sh", shell...)
	command.ExtraFiles = s.sockets
	command.Env = append(os.Environ(), "NOTIFY_SOCKET="+s.notify, "LISTEN_FDS="+strconv.Itoa(len(s.sockets)), "LISTEN_FDNAMES="+strings.Join(s.names, ":"))
	if watchdog > 0 {
		command.Env = append(command.Env, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds()))
	}
	return startProcess(t, "smtp-tlsproxy "+arguments[0], filepath.Join(t.TempDir(), "log"), command)
}

// startProxy is startProxy by systemd.
func (s *systemd) startProxy(t testing.TB, want setup, watchdog time.Duration) *proxy {
	t.Helper()
	want = want.complete(t)
	want.dir = t.TempDir()
	p := &proxy{setup: want, file: filepath.Join(want.dir, "config.yaml")}
	writeFile(t, p.file, want.yaml())
	p.process = s.start(t, watchdog, "serve", "--config", p.file)
	t.Cleanup(func() { p.requireCleanEnd(t) })
	s.waitTold(t, 0, "READY=1")
	return p
}

// TestSystemd_IsTold of each step in the life of the process.
func TestSystemd_IsTold(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	s := startSystemd(t)
	p := s.startProxy(t, setup{certificates: newCertificates(t), backend: server.address}, 200*time.Millisecond)
	if got := s.messages()[0]; got != "READY=1\nSTATUS=0 clients connected" {
		t.Errorf("the first message is %q", got)
	}
	if code, body := get("http://" + p.admin + "/readyz"); code != 200 {
		t.Errorf("READY=1 was told before /readyz is: %d %s", code, body)
	}
	s.waitTold(t, 0, "WATCHDOG=1")
	c := open(t, p.ports()[0], clientOptions{serverName: defaultDomain, trust: p.certificates})
	s.waitTold(t, 0, "STATUS=1 clients connected")
	c.mailTo(t, "client.test", "r@x")

	before := len(s.messages())
	p.signal(t, syscall.SIGHUP)
	reloading := s.waitTold(t, before, "RELOADING=1")
	_, usec, found := strings.Cut(reloading, "MONOTONIC_USEC=")
	if n, err := strconv.ParseInt(usec, 10, 64); !found || err != nil || n <= 0 {
		t.Errorf("told %q", reloading)
	}
	s.waitTold(t, before, "READY=1")
	before = len(s.messages())
	p.rewrite(t, "nonsense: [")
	s.waitTold(t, before, "READY=1\nSTATUS=1 clients connected; the configuration file was refused")

	before = len(s.messages())
	p.terminate(t)
	s.waitTold(t, before, "STOPPING=1")
	s.waitTold(t, before, "WATCHDOG=1\nSTATUS=shutting down") // also in the drain
	c.must(t, 354, "DATA")
	c.must(t, 250, "text\r\n.")
	requireDrained(t, c)
	p.requireExit(t, 0)
}

// TestSystemd_Sockets: all sockets of a name are served, also after reloads that
// leave one out and name it again; admin.address has its own.
func TestSystemd_Sockets(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	s := startSystemd(t)
	first, second := s.listen(t, "mail", "127.0.0.1:0"), s.listen(t, "mail", "[::1]:0")
	admin := s.listen(t, "metrics", "127.0.0.1:0")
	s.listen(t, "forgotten", "127.0.0.1:0")
	p := s.startProxy(t, setup{certificates: certs, backend: server.address, submissions: "systemd:mail", admin: "systemd:metrics"}, 0)
	p.waitLog(t, "no listener names", "forgotten")
	serves := func() {
		t.Helper()
		for _, address := range []string{first, second} {
			c := open(t, port{name: "465", address: address}, clientOptions{serverName: defaultDomain, trust: certs})
			c.must(t, 250, "EHLO client.test")
			sendMessage(t, c)
		}
	}
	serves()
	if code, _ := get("http://" + admin + "/healthz"); code != 200 {
		t.Errorf("/healthz at the passed socket: %d", code)
	}
	p.signal(t, syscall.SIGHUP)
	p.waitLog(t, "configuration reloaded")
	serves()

	without := p.setup
	without.submissions = loopback(t)
	before := len(s.messages())
	p.rewrite(t, without.yaml())
	s.waitTold(t, before, "READY=1")
	before = len(s.messages())
	p.rewrite(t, p.yaml())
	s.waitTold(t, before, "READY=1")
	serves()

	unknown := p.setup
	unknown.submissions = "systemd:mial"
	p.rewrite(t, unknown.yaml())
	p.waitLog(t, "configuration refused", `no socket of the name \"mial\"`, "there are: forgotten, mail, metrics")
	serves()
	if r := runBinary(t, "check", "--config", p.file); r.code != 0 {
		t.Errorf("check outside of systemd: exit code %d\n%s", r.code, r.output)
	}
}

// TestSystemd_SharedSocketLosesNoClient: the next process has the same socket,
// and takes who waits in its queue. Not one client hears of the change.
func TestSystemd_SharedSocketLosesNoClient(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	s := startSystemd(t)
	implicit, starttls := s.listen(t, "submissions", "127.0.0.1:0"), s.listen(t, "submission", "127.0.0.1:0")
	want := setup{certificates: certs, backend: server.address, submissions: "systemd:submissions", submission: "systemd:submission"}
	old := s.startProxy(t, want, 0)
	upgrade(t, []port{{name: "465", address: implicit}, {name: "587", address: starttls}}, certs, old, func() *proxy {
		next := startSystemd(t)
		next.sockets, next.names = s.sockets, s.names
		return next.startProxy(t, want, 0)
	})
}
