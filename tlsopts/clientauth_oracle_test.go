package tlsopts_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// TestClientAuthOfOpenSSL has the real s_client come with certificates.
func TestClientAuthOfOpenSSL(t *testing.T) {
	root, foreign := signCA(t, "clients", nil), signCA(t, "foreign", nil)
	known, stranger := signLeaf(t, &root, "RSA 2048", "known"), signLeaf(t, &foreign, "P-256", "stranger")
	ca, err := tlsopts.ParseAuthorities(root.pem())
	noErr(t, err)
	dir := openssl(t, map[string][]byte{
		"known.pem": joined(known.pem(), known.keyPEM(t)), "stranger.pem": joined(stranger.pem(), stranger.keyPEM(t)),
	})
	pin := []tlsopts.Pin{tlsopts.PinOf(stranger.cert)}
	tests := map[string]struct {
		auth   tlsopts.ClientAuth
		client string
		ok     bool
		want   tlsopts.ClientIdentity
	}{
		"request, known":    {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest, CA: ca}, "known.pem", true, tlsopts.ClientIdentity{Presented: true, Verified: true, CommonName: "known"}},
		"request, stranger": {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest, CA: ca}, "stranger.pem", true, tlsopts.ClientIdentity{Presented: true}},
		"request, none":     {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest, CA: ca}, "", true, tlsopts.ClientIdentity{}},
		"require, known":    {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, CA: ca}, "known.pem", true, tlsopts.ClientIdentity{Presented: true, Verified: true, CommonName: "known"}},
		"require, stranger": {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, CA: ca}, "stranger.pem", false, tlsopts.ClientIdentity{}},
		"require, none":     {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, CA: ca}, "", false, tlsopts.ClientIdentity{}},
		"require by pin":    {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, Pins: pin}, "stranger.pem", true, tlsopts.ClientIdentity{Presented: true, Verified: true, CommonName: "stranger"}},
		"not pinned":        {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, Pins: pin}, "known.pem", false, tlsopts.ClientIdentity{}},
	}
	server := pairOf(t, "P-256")
	for name, tt := range tests {
		for _, version := range []string{"-tls1_2", "-tls1_3"} {
			config := &tls.Config{Certificates: []tls.Certificate{*server}, SessionTicketsDisabled: true}
			noErr(t, tt.auth.Apply(config))
			args := []string{version}
			if tt.client != "" {
				args = append(args, "-cert", filepath.Join(dir, tt.client), "-key", filepath.Join(dir, tt.client))
			}
			state, err := serveOpenSSL(t, config, args...)
			if (err == nil) != tt.ok {
				t.Errorf("%s, %s: error %v", name, version, err)
			}
			if got := tt.auth.Identify(state); err == nil && got != tt.want {
				t.Errorf("%s, %s: %+v, want %+v", name, version, got, tt.want)
			}
		}
	}
}

// serveOpenSSL runs s_client against a server and returns the server's state.
func serveOpenSSL(t *testing.T, config *tls.Config, args ...string) (tls.ConnectionState, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	noErr(t, err)
	defer listener.Close()
	cmd := exec.CommandContext(t.Context(), need.Program(t, "openssl"), append([]string{"s_client", "-connect", listener.Addr().String(), "-quiet", "-no_ign_eof"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	input, err := cmd.StdinPipe()
	noErr(t, err)
	noErr(t, cmd.Start())
	defer func() {
		_ = input.Close()
		_ = cmd.Wait() // fails where the server refuses
		if t.Failed() {
			t.Logf("openssl %q:\n%s", args, out.String())
		}
	}()
	noErr(t, listener.(*net.TCPListener).SetDeadline(time.Now().Add(20*time.Second)))
	raw, err := listener.Accept()
	noErr(t, err)
	defer raw.Close()
	noErr(t, raw.SetDeadline(time.Now().Add(20*time.Second)))
	conn := tls.Server(raw, config)
	if err := conn.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = conn.Write([]byte("220 ready\r\n"))
	noErr(t, err)
	return conn.ConnectionState(), conn.Close()
}
