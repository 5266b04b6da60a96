package test

import (
	"path/filepath"
	"testing"
)

// TestEnvironmentAlone: without a configuration file, variables are enough to
// serve all three ports, beside those that Kubernetes makes for a service.
func TestEnvironmentAlone(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := &proxy{setup: setup{certificates: certs, submissions: loopback(t), submission: loopback(t), mx: loopback(t), admin: loopback(t)}}
	p.process = startBinary(t, []string{
		"SMTP_TLSPROXY_BACKEND=" + server.address, "SMTP_TLSPROXY_CERTIFICATES=" + certs.dir, "SMTP_TLSPROXY_DEFAULT_CERTIFICATE=" + defaultDomain,
		"SMTP_TLSPROXY_LISTEN_SUBMISSIONS=" + p.submissions, "SMTP_TLSPROXY_LISTEN_SUBMISSION=" + p.submission, "SMTP_TLSPROXY_LISTEN_MX=" + p.mx,
		"SMTP_TLSPROXY_ADMIN=" + p.admin, "SMTP_TLSPROXY_SERVICE_HOST=10.0.0.1",
	}, "serve")
	t.Cleanup(func() { p.requireCleanEnd(t) })
	p.waitReady(t)
	for _, port := range p.ports() {
		c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
		c.must(t, 250, "EHLO client.test")
		c.mustEnd(t, 221, "QUIT")
	}
}

// TestEnvironmentFaults: a variable that is not known, and too few, end the
// program with a line that says what to do.
func TestEnvironmentFaults(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]string{
		"SMTP_TLSPROXY_BACKENDS=a:25":                                   "SMTP_TLSPROXY_BACKENDS: this variable is not known: did you mean SMTP_TLSPROXY_BACKEND?",
		"SMTP_TLSPROXY_CONFIG=" + filepath.Join(t.TempDir(), "missing"): "SMTP_TLSPROXY_BACKEND=host:port",
	} {
		p := startBinary(t, []string{variable}, "serve")
		if code := p.waitExit(t, patience); code != 1 {
			t.Errorf("%s: exit code %d, want 1", variable, code)
		}
		if log := p.logged(); lineWith(log, want) == "" {
			t.Errorf("%s: no line has %q:\n%s", variable, want, log)
		}
	}
}
