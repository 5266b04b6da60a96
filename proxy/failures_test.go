package proxy_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// TestFailuresAreKept: the newest 50, that first, and nothing of handshakes
// that succeed.
func TestFailuresAreKept(t *testing.T) {
	t.Parallel()
	refusing := listenerTo(t, proxy.ModeImplicitTLS, newBackend(t, mailServer).address)
	refusing.RejectUnknownSNI = true
	srv := serve(t, refusing)
	srv.tlsClient(proxy.ModeImplicitTLS)
	if got := srv.Failures(); len(got) != 0 {
		t.Fatalf("failures of nobody: %+v", got)
	}
	var clients []string
	for i := range 53 {
		c := srv.client(proxy.ModeImplicitTLS.String())
		clients = append(clients, c.conn.LocalAddr().String())
		if err := c.tryHandshake(&tls.Config{ServerName: fmt.Sprintf("name%d.example", i), InsecureSkipVerify: true}); err == nil {
			t.Fatal("the client is served")
		}
		must(t, c.conn.Close())
		srv.eventually("it is kept", func() bool {
			return len(srv.Failures()) == min(i+1, 50) && srv.Failures()[0].Client.String() == clients[i]
		})
	}
	for i, failure := range srv.Failures() {
		n := 52 - i
		if failure.ServerName != fmt.Sprintf("name%d.example", n) || failure.Client.String() != clients[n] || failure.Reason != "unknown_sni" ||
			failure.Listener != proxy.ModeImplicitTLS.String() || failure.At.IsZero() || failure.Detail == "" {
			t.Errorf("failure %d: %+v", i, failure)
		}
	}
}

// TestFailuresTellWhy: the detail names our side of it, and what a client sent
// is escaped and cut.
func TestFailuresTellWhy(t *testing.T) {
	t.Parallel()
	srv := serve(t, listenerTo(t, proxy.ModeSTARTTLS, newBackend(t, mailServer).address))
	c := srv.client(proxy.ModeSTARTTLS.String())
	c.plainPhase()
	if err := c.tryHandshake(&tls.Config{ServerName: strings.Repeat("\n", 20_000), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, InsecureSkipVerify: true}); err == nil {
		t.Fatal("the client is served")
	}
	srv.eventually("the failure is kept", func() bool { return len(srv.Failures()) == 1 })
	got := srv.Failures()[0]
	if got.Reason != "no_shared_version" || !strings.Contains(got.Detail, "we accept TLSv1.2 to TLSv1.3") {
		t.Errorf("%s: %s", got.Reason, got.Detail)
	}
	if want := strings.Repeat(`\n`, 255); got.ServerName != want {
		t.Errorf("the server name is %q", got.ServerName)
	}
}

// TestScannersPushNoFailureOut: what they leave is kept in a place of its own.
func TestScannersPushNoFailureOut(t *testing.T) {
	t.Parallel()
	refusing := listenerTo(t, proxy.ModeImplicitTLS, newBackend(t, mailServer).address)
	refusing.RejectUnknownSNI = true
	srv := serve(t, refusing)
	c := srv.client(proxy.ModeImplicitTLS.String())
	if err := c.tryHandshake(&tls.Config{ServerName: "unknown.example", InsecureSkipVerify: true}); err == nil {
		t.Fatal("the client is served")
	}
	srv.eventually("it is kept", func() bool { return len(srv.Failures()) == 1 })
	var last string
	for range 60 {
		scanner := srv.client(proxy.ModeImplicitTLS.String())
		last = scanner.conn.LocalAddr().String()
		must(t, scanner.conn.Close())
		srv.eventually("it is kept, too", func() bool { return srv.Failures()[0].Client.String() == last })
	}
	got := srv.Failures()
	if len(got) != 11 || got[10].Reason != "unknown_sni" || got[0].Reason != "eof" {
		t.Errorf("%d failures, %s the newest, %s the oldest", len(got), got[0].Reason, got[len(got)-1].Reason)
	}
}
