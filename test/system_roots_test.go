package test

import (
	"bufio"
	"crypto/tls"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// startTLSBackend greets with TLS from the first byte. It sends each handshake's
// outcome.
func startTLSBackend(t testing.TB, certs *certificates) (address string, handshakes <-chan error) {
	t.Helper()
	folder := filepath.Join(certs.dir, defaultDomain)
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	outcomes := make(chan error, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				// With TLS 1.3 the client's refusal comes behind the handshake.
				io.WriteString(conn, "220 backend.test ESMTP\r\n")
				in := bufio.NewReader(conn)
				_, err := in.ReadString('\n')
				outcomes <- err
				for err == nil {
					io.WriteString(conn, "250 backend.test\r\n")
					_, err = in.ReadString('\n')
				}
			}()
		}
	}()
	return l.Addr().String(), outcomes
}

// TestR88_LandlockLeavesTheSystemsAuthorities: they are where SSL_CERT_FILE
// says, which Landlock hides, and a backend needs them for the first time after
// a reload.
func TestR88_LandlockLeavesTheSystemsAuthorities(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	address, handshakes := startTLSBackend(t, certs)
	p := startProxy(t, setup{certificates: certs, backend: loopback(t), clientInfo: "none", environment: []string{"SSL_CERT_FILE=" + certs.file, "SSL_CERT_DIR=/nowhere"}})
	if kernelHasLandlock() {
		p.waitLog(t, "landlock restricts the program")
	}
	other := p.setup
	other.backend = address
	other.backendKeys = "tls: {mode: implicit, server_name: " + defaultDomain + "}, health_check: {interval: 100ms}"
	p.rewrite(t, other.yaml())
	if err := <-handshakes; err != nil {
		t.Errorf("the backend's certificate was not accepted: %v\n%s", err, strings.TrimSpace(lineWith(p.logged(), "x509")))
	}
}
