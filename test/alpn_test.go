package test

import (
	"crypto/tls"
	"fmt"
	"testing"
)

// TestR21_ALPN: the names of mail are selected, foreign ones refused, and
// clients without any welcome.
func TestR21_ALPN(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	strict := startProxy(t, setup{certificates: certs, backend: server.address})
	off := startProxy(t, setup{certificates: certs, backend: server.address, tls: "alpn: off"})
	for _, test := range []struct {
		offered  []string
		selected string
	}{
		{nil, ""}, {[]string{"smtp"}, "smtp"}, {[]string{"esmtp"}, "esmtp"}, {[]string{"submission"}, "submission"},
		{[]string{"h2", "http/1.1", "smtp"}, "smtp"}, {[]string{"submission", "smtp"}, "smtp"},
	} {
		for _, port := range strict.ports() {
			requireProtocol(t, port, certs, test.offered, test.selected)
		}
	}
	foreign := [][]string{{"http/1.1"}, {"h2"}, {"h2", "http/1.1"}, {"imap"}, {"SMTP"}, {"smtps", "smtp2"}}
	for i, port := range strict.ports() {
		for _, offered := range foreign {
			requireAlert(t, port, helloFor(t, "a.example", offered...), noApplicationProtos)
		}
		strict.waitMetric(t, handshakeFailures([]string{"submissions", "submission"}[i], "alpn"), fmt.Sprint(len(foreign)))
	}
	for _, port := range off.ports() {
		for _, offered := range append(foreign, nil, []string{"smtp"}) {
			requireProtocol(t, port, certs, offered, "")
		}
	}
}

// requireProtocol wants a session with that name selected.
func requireProtocol(t *testing.T, to port, certs *certificates, offered []string, selected string) {
	t.Helper()
	config := clientOptions{serverName: "a.example", trust: certs}.config()
	config.NextProtos = offered
	c := dial(t, to.address, "")
	if err := c.enter(to, config); err != nil {
		t.Errorf("port %s: a client that offers %q: %v", to.name, offered, err)
		return
	}
	if got := c.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != selected {
		t.Errorf("port %s: a client that offers %q gets %q, want %q", to.name, offered, got, selected)
	}
	c.must(t, 221, "QUIT")
}
