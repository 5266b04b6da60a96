// Package need finds what tests want of the machine. A test whose program is
// missing is skipped with a line that says so, and fails where
// TLSPROXY_INTEGRATION=required is set, as in CI: there, what was skipped
// would look like what passed.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Missing ends a test that lacks something.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("TLSPROXY_INTEGRATION") == "required" {
		t.Fatalf("missing: %s; test/install brings it", what)
	}
	t.Skipf("missing: %s; `make test` as root on Debian or Ubuntu installs it", what)
}

// Program is the path of a program, looked for also where Debian keeps
// servers, which is on root's path only.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		Missing(t, name)
	}
	return path
}
