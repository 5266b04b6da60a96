package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// TestR88_NobodyOnAReadOnlySystem: the proxy serves, checks, reloads and ends
// as a user without rights or a home, where nothing can be written and no
// program is on the path.
func TestR88_NobodyOnAReadOnlySystem(t *testing.T) {
	t.Parallel()
	const nobody = 65534
	need(t, "root", "unshare", "setpriv")
	server := startRecorder(t, withHeader)
	dir := sharedDir(t)
	certs := newCertificates(t)
	certs.dir = filepath.Join(dir, "certs")
	for _, name := range domains {
		if err := certs.ca.WriteFolder(certs.dir, name, devcert.Leaf{Names: []string{name}}); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(certs.dir, name, "key.pem"), nobody, -1); err != nil {
			t.Fatal(err)
		}
	}
	p := &proxy{setup: setup{certificates: certs, backend: server.address}.complete(t), file: filepath.Join(dir, "config.yaml")}
	writeFile(t, p.file, p.yaml())
	// confined runs a shell's command line on a system that is read-only, with
	// the user's program as $0 and what follows it.
	confined := func(then string, arguments ...string) *exec.Cmd {
		script := "mount --make-rprivate / && for at in / /tmp /var /run /dev; do ! mountpoint -q $at || mount -o remount,bind,ro $at; done && " + then
		return exec.Command("unshare", append([]string{"--mount", "sh", "-c", script}, arguments...)...)
	}
	as := "exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all env -i "

	if output, err := confined(`! touch "$0"`, filepath.Join(dir, "written")).CombinedOutput(); err != nil {
		t.Fatalf("the system is not read-only: %v\n%s", err, output)
	}
	if output, err := confined(as+`"$0" "$@"`, builtBinary(t), "check", "--config", p.file).CombinedOutput(); err != nil {
		t.Fatalf("check: %v\n%s", err, output)
	}
	p.process = startProcess(t, "smtp-tlsproxy serve", filepath.Join(t.TempDir(), "smtp-tlsproxy.log"),
		confined(as+`"$0" "$@"`, builtBinary(t), "serve", "--config", p.file))
	t.Cleanup(func() { p.requireCleanEnd(t) })
	p.waitReady(t)
	for i := range p.ports() {
		served(t, p, i)
	}
	p.signal(t, syscall.SIGHUP)
	p.waitLog(t, "configuration reloaded")
	for i := range p.ports() {
		served(t, p, i)
	}
	for _, level := range []string{`"level":"WARN"`, `"level":"ERROR"`} {
		if line := lineWith(p.logged(), level); line != "" && !strings.Contains(line, "file descriptors") {
			t.Errorf("it complains: %s", line)
		}
	}
}
