package sni_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

func pemOf(cert *tls.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Leaf.Raw}))
}

func serverConfig(s *sni.Store) *tls.Config {
	return &tls.Config{GetCertificate: s.GetCertificate, SessionTicketsDisabled: true, MinVersion: tls.VersionTLS12}
}

// handshake connects with serverName and returns the server's leaf name.
func handshake(t *testing.T, s *sni.Store, client *tls.Config) (leaf string, err error) {
	t.Helper()
	leaf, _, err = handshakeState(t, s, client)
	return leaf, err
}

func handshakeState(t *testing.T, s *sni.Store, client *tls.Config) (leaf string, state tls.ConnectionState, err error) {
	t.Helper()
	return connect(serverConfig(s), client)
}

// connect does one handshake in memory.
func connect(server, client *tls.Config) (leaf string, state tls.ConnectionState, err error) {
	near, far := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	if err := errors.Join(near.SetDeadline(deadline), far.SetDeadline(deadline)); err != nil {
		return "", state, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		_ = tls.Server(far, server).Handshake()
	}()
	defer func() { _ = near.Close(); <-done }()
	conn := tls.Client(near, client)
	if err := conn.Handshake(); err != nil {
		return "", state, err
	}
	state = conn.ConnectionState()
	return state.PeerCertificates[0].DNSNames[0], state, nil
}

func TestHandshakes(t *testing.T) {
	dir := tree(t, "a.example", "*.example.com", "default.example")
	s := open(t, dir, sni.Options{Default: "default.example"})
	tests := map[string]string{
		"a.example":         "a.example",
		"A.EXAMPLE":         "a.example",
		"b.example.com":     "*.example.com",
		"c.b.example.com":   "default.example",
		"../a.example":      "default.example",
		"a.example\x00evil": "default.example",
		"müller.example":    "default.example",
		"192.0.2.1":         "default.example", // sent without a server name
		"":                  "default.example",

		strings.Repeat("x", 300): "default.example",
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, want := range tests {
			got, err := handshake(t, s, &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: version})
			if err != nil || got != want {
				t.Errorf("%s, %q: %q, %v; want %q", tls.VersionName(version), name, got, err, want)
			}
		}
	}
	for _, name := range hostile { // R22, R23: what crypto/tls lets through, and what it refuses itself
		got, err := handshake(t, s, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err == nil && got != "default.example" && name != "a.example." { // its client cuts the dot off
			t.Errorf("%.80q: got %s", name, got)
		}
	}
	if _, err := handshake(t, s, &tls.Config{ServerName: "a.example", RootCAs: authority().Pool()}); err != nil {
		t.Errorf("not verified: %v", err)
	}
}

func TestR33_UnknownNameWithoutDefault(t *testing.T) {
	s := open(t, tree(t, "a.example", "b.example"), sni.Options{})
	for _, name := range []string{"unknown.example", "", "../a.example"} {
		_, err := handshake(t, s, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		// 112 is unrecognized_name (RFC 6066 section 3).
		if err == nil || !strings.Contains(err.Error(), tls.AlertError(112).Error()[len("tls: "):]) {
			t.Errorf("%q: error %v, want the alert unrecognized_name", name, err)
		}
	}
}

// TestR24_TrailingDot shows that crypto/tls answers a trailing dot, which RFC
// 6066 section 3 forbids, before any certificate is asked for. Its own client
// never sends one, so a recorded ClientHello is patched.
func TestR24_TrailingDot(t *testing.T) {
	s := open(t, tree(t, "a.example"), sni.Options{})
	near, far := net.Pipe()
	go func() {
		defer near.Close()
		_ = tls.Client(near, &tls.Config{ServerName: "a.examplex", InsecureSkipVerify: true}).Handshake()
	}()
	hello := readRecord(t, far)
	must(t, far.Close())
	patched := bytes.Replace(hello, []byte("a.examplex"), []byte("a.example."), 1)
	if bytes.Equal(hello, patched) {
		t.Fatal("no server name in the ClientHello")
	}

	client, server := net.Pipe()
	defer client.Close()
	failed := make(chan error, 1)
	go func() {
		defer server.Close()
		failed <- tls.Server(server, serverConfig(s)).Handshake()
	}()
	_, err := client.Write(patched)
	must(t, err)
	alert := readRecord(t, client)
	if want := []byte{21, 2, 50}; alert[0] != want[0] || !bytes.Equal(alert[5:], want[1:]) {
		t.Errorf("answer % x, want the fatal alert decode_error(50)", alert)
	}
	if err := <-failed; err == nil {
		t.Error("no error on the server")
	}
}

// readRecord reads one TLS record, header included.
func readRecord(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	header := make([]byte, 5)
	_, err := io.ReadFull(conn, header)
	must(t, err)
	body := make([]byte, binary.BigEndian.Uint16(header[3:]))
	_, err = io.ReadFull(conn, body)
	must(t, err)
	return append(header, body...)
}
