package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	needs "github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
)

// binaryVariable names a built program to test instead of building one. The
// tests set it for the copies of themselves that they start in a network
// namespace.
const binaryVariable = "TLSPROXY_TEST_BINARY"

var build struct {
	once sync.Once
	dir  string
	file string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if build.dir != "" {
		os.RemoveAll(build.dir)
	}
	os.Exit(code)
}

// builtBinary is the program under test, built once with the race detector.
func builtBinary(t testing.TB) string {
	t.Helper()
	build.once.Do(func() { build.file, build.err = buildBinary() })
	if errors.Is(build.err, exec.ErrNotFound) {
		needs.Missing(t, "the go command, to build the program")
	}
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.file
}

func buildBinary() (string, error) {
	if file := os.Getenv(binaryVariable); file != "" {
		return file, nil
	}
	if _, err := exec.LookPath("go"); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "smtp-tlsproxy-build-")
	if err != nil {
		return "", err
	}
	build.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "smtp-tlsproxy")
	arguments := []string{"build", "-o", file}
	if compiler, err := exec.LookPath("gcc"); err == nil && compiler != "" && runtime.GOARCH != "386" {
		arguments = append(arguments, "-race") // needs a C compiler
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "go", append(arguments, "./cmd/smtp-tlsproxy")...)
	command.Dir = ".."
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, output)
	}
	return file, nil
}

// programs maps the names that tests ask for to how to find them.
var programs = map[string]func() bool{
	"root":     func() bool { return os.Geteuid() == 0 },
	"go":       onPath("go"),
	"swaks":    onPath("swaks"),
	"openssl":  onPath("openssl"),
	"sslscan":  onPath("sslscan"),
	"chromium": onPath("chromium"),
	"testssl":  onPath("testssl"),
	"ip":       onPath("ip"),
	"prlimit":  onPath("prlimit"),
	"unshare":  onPath("unshare"),
	"setpriv":  onPath("setpriv"),
	"postfix":  func() bool { return onPath("postconf")() && isFile(postfixMaster()) },
	"exim":     func() bool { return isFile(eximBinary()) },
	"dovecot":  onPath("dovecot"),
	"node":     onPath("node"),
	"haraka":   hasModule("Haraka"),
	"haproxy":  onPath("haproxy"),
	"nginx":    func() bool { return onPath("nginx")() && isFile(nginxStream) },
	"aiosmtpd": func() bool { return exec.Command(python, "-c", "import aiosmtpd").Run() == nil },
	"opensmtpd": func() bool {
		return isFile(filepath.Join(opensmtpdFolder(), "usr", "sbin", "smtpd"))
	},
	"smtp-server":     hasModule("smtp-server"),
	"systemd-analyze": onPath("systemd-analyze"),
	"nginx-mail":      func() bool { return onPath("nginx")() && isFile(nginxMail) },
	"yaml":            func() bool { return exec.Command(python, "-c", "import yaml").Run() == nil },
	"submission-login": func() bool {
		return isFile(dovecotSubmissionLogin)
	},
	"prometheus": func() bool {
		return isFile(prometheusProgram("prometheus")) && isFile(prometheusProgram("promtool"))
	},
}

var found sync.Map // program name → bool; asking costs a process for some

// need ends the test where one of the programs is missing ("root" counts).
func need(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		there, known := found.Load(name)
		if !known {
			there = programs[name]()
			found.Store(name, there)
		}
		if !there.(bool) {
			needs.Missing(t, name)
		}
	}
}

func onPath(program string) func() bool {
	return func() bool {
		_, err := lookPath(program)
		return err == nil
	}
}

// lookPath also looks where Debian keeps servers, which is on root's path only.
func lookPath(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + program)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

const namespaceVariable = "TLSPROXY_TEST_NAMESPACE"

// inNamespace runs the calling test again in a fresh network namespace that
// has the given addresses on its loopback interface. It returns true in that
// copy; the caller returns at once where it is false.
func inNamespace(t *testing.T, addresses ...string) bool {
	t.Helper()
	need(t, "root", "ip")
	if os.Getenv(namespaceVariable) == t.Name() {
		ip(t, "link", "set", "lo", "up")
		for _, address := range addresses {
			if strings.Contains(address, ":") {
				ip(t, "address", "add", address, "dev", "lo", "nodad")
			} else {
				ip(t, "address", "add", address, "dev", "lo")
			}
		}
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	command.Env = append(os.Environ(), namespaceVariable+"="+t.Name(), binaryVariable+"="+builtBinary(t))
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	output, err := command.CombinedOutput()
	t.Logf("in its own network namespace:\n%s", output)
	switch {
	case err != nil:
		t.Errorf("the copy in the network namespace: %v", err)
	case bytes.Contains(output, []byte("--- SKIP")):
		t.Skip("skipped in the network namespace")
	case !bytes.Contains(output, []byte("--- PASS: "+t.Name()+" ")):
		t.Error("the copy in the network namespace ran no test")
	}
	return false
}

func ip(t testing.TB, arguments ...string) {
	t.Helper()
	program, err := lookPath("ip")
	if err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command(program, arguments...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
}
