package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestUnits: systemd has nothing to say against the units, and finds the
// service exposed to little, as docs/operations.md tells.
func TestUnits(t *testing.T) {
	t.Parallel()
	need(t, "systemd-analyze")
	root, units := unitRoot(t)
	verified := runProgram(t, "systemd-analyze", append([]string{"verify", "--man=no", "--root=" + root}, units...)...)
	if verified.requireCode(t, 0); strings.TrimSpace(verified.output) != "" {
		t.Errorf("systemd-analyze verify warns:\n%s", verified.output)
	}
	// The threshold counts in tenths.
	rated := runProgram(t, "systemd-analyze", "security", "--offline=true", "--threshold=19", "../deploy/systemd/smtp-tlsproxy.service")
	rated.requireCode(t, 0)
	rated.requireOutput(t, "Overall exposure level")
}

// TestUnits_WrongOnesAreFound: a unit that names no program, a key that does
// not exist and a service without its confinement do not pass.
func TestUnits_WrongOnesAreFound(t *testing.T) {
	t.Parallel()
	need(t, "systemd-analyze")
	for change, to := range map[string]string{"/usr/bin/smtp-tlsproxy serve": "/usr/bin/missing serve", "PrivateTmp=": "PrivateTemp="} {
		root, units := unitRoot(t)
		replaceInFile(t, filepath.Join(filepath.Dir(units[0]), "smtp-tlsproxy.service"), change, to)
		verified := runProgram(t, "systemd-analyze", append([]string{"verify", "--man=no", "--root=" + root}, units...)...)
		if strings.TrimSpace(verified.output) == "" {
			t.Errorf("%s in place of %s: systemd-analyze verify says nothing", to, change)
		}
	}
	_, units := unitRoot(t)
	service := filepath.Join(filepath.Dir(units[0]), "smtp-tlsproxy.service")
	replaceInFile(t, service, "SystemCallFilter=@system-service", "SystemCallFilter=")
	replaceInFile(t, service, "CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "")
	rated := runProgram(t, "systemd-analyze", "security", "--offline=true", "--threshold=19", service)
	if rated.code == 0 {
		t.Errorf("without its confinement the service is rated as well: %s", tail(rated.output, 1))
	}
}

// unitRoot is a folder that looks to systemd like a machine on which the units
// are installed.
func unitRoot(t *testing.T) (root string, units []string) {
	t.Helper()
	root = t.TempDir()
	for _, program := range []string{"usr/bin/smtp-tlsproxy", "bin/kill"} {
		path := filepath.Join(root, program)
		writeFile(t, path, "")
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, pattern := range []string{"/lib/systemd/system/*.target", "../deploy/systemd/*.service", "../deploy/systemd/*.socket"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no file is like %s (%v)", pattern, err)
		}
		for _, file := range files {
			copied := filepath.Join(root, "lib/systemd/system", filepath.Base(file))
			writeFile(t, copied, readFile(t, file))
			if !strings.HasSuffix(file, ".target") {
				units = append(units, copied)
			}
		}
	}
	return root, units
}

// TestUnits_SocketsAreNamedAsDocumented: each socket unit has the name in
// FileDescriptorName= that its file has, belongs to the service, and listens
// with IPv4 and IPv6.
func TestUnits_SocketsAreNamedAsDocumented(t *testing.T) {
	t.Parallel()
	for name, port := range map[string]string{"submissions": "465", "submission": "587", "mx": "25"} {
		unit := readFile(t, "../deploy/systemd/smtp-tlsproxy-"+name+".socket")
		for _, line := range []string{
			"FileDescriptorName=" + name, "Service=smtp-tlsproxy.service", "ListenStream=0.0.0.0:" + port, "ListenStream=[::]:" + port, "BindIPv6Only=ipv6-only",
		} {
			if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(line) + `$`).MatchString(unit) {
				t.Errorf("smtp-tlsproxy-%s.socket has no line %q", name, line)
			}
		}
	}
}

// replaceInFile changes a fragment that has to be there.
func replaceInFile(t *testing.T, path, from, to string) {
	t.Helper()
	text := readFile(t, path)
	if !strings.Contains(text, from) {
		t.Fatalf("%s has no %q", path, from)
	}
	writeFile(t, path, strings.Replace(text, from, to, 1))
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
