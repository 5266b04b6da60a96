package test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestR79_FewDescriptorsAreTold: limits.connections that the limit of open
// files can not hold is told at the start, after a reload, and by check; one
// that it can hold is not.
func TestR79_FewDescriptorsAreTold(t *testing.T) {
	t.Parallel()
	need(t, "prlimit")
	const told = "limits.connections: 40 connections need 144 file descriptors, and the process may have 128: "
	server := startRecorder(t, withHeader)
	p := &proxy{file: filepath.Join(t.TempDir(), "config.yaml")}
	p.setup = setup{certificates: newCertificates(t), backend: server.address, limits: "connections: 32"}.complete(t)
	writeFile(t, p.file, p.yaml())
	check := func() string {
		t.Helper()
		r := runProgram(t, "prlimit", "--nofile=128", builtBinary(t), "check", "--offline", "--config", p.file)
		r.requireCode(t, 0)
		return r.output
	}
	if output := check(); strings.Contains(output, "file descriptors") {
		t.Errorf("check warns of what is enough:\n%s", indent(output))
	}
	p.process = startProcess(t, "smtp-tlsproxy serve", filepath.Join(t.TempDir(), "smtp-tlsproxy.log"),
		exec.Command("prlimit", "--nofile=128", builtBinary(t), "serve", "--config", p.file))
	t.Cleanup(func() { p.requireCleanEnd(t) })
	p.waitReady(t)
	if line := lineWith(p.logged(), "file descriptors"); line != "" {
		t.Errorf("serve warns of what is enough: %s", line)
	}
	p.limits = "connections: 40"
	p.rewrite(t, p.yaml())
	p.waitLog(t, `"level":"WARN"`, told, "or lower it to 32")
	if output := check(); lineWith(output, "warning: "+p.file+":", told) == "" {
		t.Errorf("check does not warn:\n%s", indent(output))
	}
}
