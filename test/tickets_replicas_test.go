package test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// TestTickets_Replicas with the same secret file resume each other's sessions,
// also while the secret is replaced; one with another secret resumes none.
func TestTickets_Replicas(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	secret := newSecretFile(t)
	s := setup{certificates: newCertificates(t), backend: startRecorder(t, withHeader).address}
	s.tls = fmt.Sprintf("session_tickets: {enabled: true, secret_file: %q}", secret)
	first, second := startProxy(t, s), startProxy(t, s)
	s.tls = fmt.Sprintf("session_tickets: {enabled: true, secret_file: %q}", newSecretFile(t))
	stranger := startProxy(t, s)

	save := func(p *proxy) (sessions []string) {
		t.Helper()
		for _, version := range tlsVersions {
			sessions = append(sessions, saveSession(t, p.ports()[0], version, "-servername", "a.example"))
		}
		return sessions
	}
	requireAt := func(p *proxy, want bool, sessions []string) {
		t.Helper()
		for i, version := range tlsVersions {
			for _, port := range p.ports() {
				requireResumed(t, want, port, sessions[i], version, "-servername", "a.example")
				requireResumed(t, false, port, sessions[i], version, "-servername", "b.example")
			}
		}
	}
	reloads := 1 // the start counts
	// replace is what an operator does on all replicas, with a signal for who
	// does not want to wait until they look at the file.
	replace := func(text string) {
		t.Helper()
		writeFile(t, secret+".new", text)
		if err := os.Rename(secret+".new", secret); err != nil {
			t.Fatal(err)
		}
		reloads++
		for _, p := range []*proxy{first, second} {
			p.signal(t, syscall.SIGHUP)
			p.waitMetric(t, `smtp_tlsproxy_config_reloads_total{result="success"}`, fmt.Sprint(reloads))
		}
	}

	old := save(first)
	requireAt(first, true, old)
	requireAt(second, true, old)
	requireAt(stranger, false, old)

	was, err := os.ReadFile(secret)
	if err != nil {
		t.Fatal(err)
	}
	next := newSecret() + "\n"
	replace(next + string(was))
	first.waitLog(t, "session ticket secrets changed", `"secrets":2`)
	renewed := save(second)
	requireAt(first, true, old)
	requireAt(second, true, old)
	requireAt(first, true, renewed)

	replace(next)
	requireAt(first, false, old)
	requireAt(second, true, renewed)

	writeFile(t, secret, "too short\n") // leaves what was read last
	first.signal(t, syscall.SIGHUP)
	first.waitLog(t, "configuration refused", "secret_file", secret)
	requireAt(first, true, renewed)
	if line := lineWith(first.logged()+second.logged(), next[:20]); line != "" {
		t.Errorf("the log has the secret: %s", line)
	}
}
