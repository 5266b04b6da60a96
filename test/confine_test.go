package test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// kernelHasLandlock asks the kernel for its version of Landlock.
func kernelHasLandlock() bool {
	const createRuleset, versionOnly = 444, 1
	version, _, errno := syscall.Syscall(createRuleset, 0, 0, versionOnly)
	return errno == 0 && version > 0
}

// threadStatus is the fields of /proc/PID/task/*/status that have the name.
func (p *process) threadStatus(t testing.TB, field string) []string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.command.Process.Pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("threads of %s: %v, %v", p.name, files, err)
	}
	var values []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		line := lineWith(string(data), field+":")
		values = append(values, strings.Join(strings.Fields(strings.TrimPrefix(line, field+":")), " "))
	}
	return values
}

func (p *process) requireThreads(t testing.TB, field, want string) {
	t.Helper()
	for _, got := range p.threadStatus(t, field) {
		if got != want {
			t.Errorf("a thread of %s has %s %q, want %q", p.name, field, got, want)
		}
	}
}

// linkedDomain makes a folder whose files are links that lead out of the
// certificate directory, and returns how to use it.
func linkedDomain(t testing.TB, certs *certificates, name string) {
	t.Helper()
	outside := filepath.Join(t.TempDir(), "archive")
	if err := certs.ca.WriteFolder(outside, name, devcert.Leaf{Names: []string{name}}); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(certs.dir, name)
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"cert.pem", "key.pem"} {
		if err := os.Symlink(filepath.Join(outside, name, file), filepath.Join(inside, file)); err != nil {
			t.Fatal(err)
		}
	}
}

// served is the name in the certificate that a client gets.
func (p *proxy) served(t testing.TB, name string) string {
	t.Helper()
	c := dial(t, p.submissions, "")
	config := clientOptions{serverName: name, trust: p.certificates}.config()
	config.InsecureSkipVerify = true
	if err := c.startTLS(config); err != nil {
		c.fatal(t, err)
	}
	defer c.close()
	return c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
}

// TestR88_Landlock: the program reads what the configuration named at the
// start, also through links, and nothing that comes to light later; not even
// as root. Without Landlock one line says so.
func TestR88_Landlock(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	linkedDomain(t, certs, "before.example")
	p := startProxy(t, setup{certificates: certs, backend: server.address, tls: "key_log_file: " + filepath.Join(t.TempDir(), "keys")})
	p.requireThreads(t, "NoNewPrivs", "1")
	if got := p.served(t, "before.example"); got != "before.example" {
		t.Errorf("a folder of links from before the start: served %q", got)
	}
	linkedDomain(t, certs, "after.example")
	if err := certs.ca.WriteFolder(certs.dir, "new.example", devcert.Leaf{Names: []string{"new.example"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new folder is served", func() bool { return p.served(t, "new.example") == "new.example" })
	if !kernelHasLandlock() {
		p.waitLog(t, "landlock is not there")
		eventually(t, "a new folder of links is served", func() bool { return p.served(t, "after.example") == "after.example" })
		return
	}
	p.waitLog(t, "landlock restricts the program")
	if got := p.served(t, "after.example"); got != defaultDomain {
		t.Errorf("a folder of links that lead to where none did at the start: served %q", got)
	}
	p.waitLog(t, "certificate not usable", "after.example", "permission denied", "Landlock keeps the program from it", "restart the program")
	if p.metric(t, "process_open_fds") == "" {
		t.Error("the metrics of the process are gone")
	}

	other := p.setup
	otherCertificates := newCertificates(t)
	other.certificates = otherCertificates
	p.rewrite(t, other.yaml())
	p.waitLog(t, "configuration refused", p.file+":1:", otherCertificates.dir, "can not be widened: restart the program")
	p.rewrite(t, p.yaml())
	p.waitMetric(t, configSuccessful, "1")
	p.rewrite(t, p.yaml()+"process: {landlock: false}\n")
	p.waitLog(t, "configuration refused", "process is set at the start only")
}

// TestR88_WithoutLandlock is the control of the test above.
func TestR88_WithoutLandlock(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, process: "landlock: false"})
	p.requireThreads(t, "NoNewPrivs", "1")
	linkedDomain(t, certs, "after.example")
	eventually(t, "a new folder of links is served", func() bool { return p.served(t, "after.example") == "after.example" })
	if line := lineWith(p.logged(), "landlock"); line != "" {
		t.Errorf("the log has: %s", line)
	}
}

// nobody is a uid and a gid that need no entry in /etc/passwd.
const nobody = "64999"

// TestR88_User: the program binds as root, and then is another user in all
// threads, for good.
func TestR88_User(t *testing.T) {
	t.Parallel()
	need(t, "root")
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	openTo(t, certs.dir)
	s := setup{certificates: certs, backend: server.address, process: `user: "` + nobody + `:65001"`, dir: sharedDir(t)}
	p := startProxy(t, s)
	four := func(id string) string { return strings.Join([]string{id, id, id, id}, " ") }
	p.requireThreads(t, "Uid", four(nobody))
	p.requireThreads(t, "Gid", four("65001"))
	p.requireThreads(t, "Groups", "65001")
	p.requireThreads(t, "CapEff", "0000000000000000")
	p.requireThreads(t, "CapPrm", "0000000000000000")
	p.requireThreads(t, "NoNewPrivs", "1")
	for _, port := range p.ports() {
		c := open(t, port, clientOptions{serverName: defaultDomain, trust: certs})
		c.must(t, 250, "EHLO client.test")
		sendMessage(t, c)
	}
	if p.metric(t, "process_open_fds") == "" {
		t.Error("the metrics of the process are gone")
	}
	p.signal(t, syscall.SIGHUP)
	p.waitLog(t, "configuration reloaded")

	low := p.setup
	low.submissions = "127.0.0.1:7"
	p.rewrite(t, low.yaml())
	if unprivileged(t) > 7 {
		p.waitLog(t, "configuration refused", "127.0.0.1:7", "permission denied", "ports below 1024", "process.user")
	}
}

// unprivileged is the lowest port that needs no rights.
func unprivileged(t testing.TB) int {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestR88_UserFaults: what is wrong is told at the start, with the mend.
func TestR88_UserFaults(t *testing.T) {
	t.Parallel()
	need(t, "root")
	server := startRecorder(t, withHeader)
	closed := newCertificates(t)
	openTo(t, closed.dir)
	if err := os.Chmod(filepath.Join(closed.dir, defaultDomain, "key.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, user string
		as         int // uid that starts the program
		want       []string
	}{
		{"no such user", "no-such-user", 0, []string{"config.yaml:", "unknown user no-such-user", "useradd --system"}},
		{"uid without an entry", `"` + nobody + `"`, 0, []string{"no user has the uid " + nobody, "uid:gid"}},
		{"not root", `"` + nobody + `:65001"`, 64998, []string{"only root can become user", "User="}},
		{"certificates closed to the user", `"` + nobody + `:65001"`, 0, []string{
			"can not read the certificates", "permission denied", "chgrp -R 65001 " + closed.dir}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := setup{certificates: closed, backend: server.address, process: "user: " + test.user}.complete(t)
			file := filepath.Join(sharedDir(t), "config.yaml")
			writeFile(t, file, s.yaml())
			command := exec.CommandContext(t.Context(), builtBinary(t), "serve", "--config", file)
			command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(test.as), Gid: uint32(test.as)}}
			output, err := command.CombinedOutput()
			if err == nil || command.ProcessState.ExitCode() != 1 {
				t.Errorf("exit code %d (%v), want 1", command.ProcessState.ExitCode(), err)
			}
			for _, want := range test.want {
				if !strings.Contains(string(output), want) {
					t.Errorf("no %q in:\n%s", want, output)
				}
			}
		})
	}
}

// openTo lets every user read a folder of the test and what is in it.
func openTo(t testing.TB, dir string) {
	t.Helper()
	for up := dir; strings.HasPrefix(up, os.TempDir()+"/"); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if entry.IsDir() {
			mode = 0o755
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestR89_WritableFileIsRefused: at the start, by check, and at a reload; but
// not where it is mounted read-only, as Kubernetes does it.
func TestR89_WritableFileIsRefused(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address})
	chmod := func(mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(p.file, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(0o666)
	p.signal(t, syscall.SIGHUP)
	p.waitLog(t, "configuration refused", "can be written by every user", "chmod o-w")
	_, status := get("http://" + p.admin + "/status.json")
	if !strings.Contains(status, "can be written by every user") {
		t.Errorf("/status.json: %s", status)
	}
	p.waitMetric(t, configSuccessful, "0")
	for _, command := range []string{"check", "serve"} {
		if r := runBinary(t, command, "--config", p.file); r.code != 1 || !strings.Contains(r.output, "chmod o-w "+p.file) {
			t.Errorf("%s: exit code %d\n%s", command, r.code, r.output)
		}
	}
	chmod(0o644)
	p.signal(t, syscall.SIGHUP)
	p.waitMetric(t, configSuccessful, "1")

	need(t, "root")
	dir := sharedDir(t)
	writeFile(t, filepath.Join(dir, "config.yaml"), p.yaml())
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	const mounted = `mount --bind "$2" "$2" && mount -o remount,bind,ro "$2" && exec "$1" check --offline --config "$2/config.yaml"`
	if r := runProgram(t, "unshare", "--mount", "sh", "-c", mounted, "sh", builtBinary(t), dir); r.code != 0 {
		t.Errorf("mounted read-only: exit code %d\n%s", r.code, r.output)
	}
	if r := runBinary(t, "check", "--offline", "--config", filepath.Join(dir, "config.yaml")); r.code != 1 || !strings.Contains(r.output, "chmod o-w "+dir) {
		t.Errorf("not mounted: exit code %d\n%s", r.code, r.output)
	}
	if code, _ := get("http://" + p.admin + "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
}
