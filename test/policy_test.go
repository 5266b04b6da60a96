package test

import (
	"crypto/tls"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// weakGODEBUG is what an environment can say to have crypto/tls do again what
// it did long ago.
const weakGODEBUG = "GODEBUG=tls10server=1,tlsrsakex=1,tls3des=1,tlsunsafeekm=1,tlsmaxrsasize=16384"

// TestR37_WeakTLSIsRefused, whatever the environment says: TLS below 1.2, RSA
// key exchange, 3DES and CBC suites, and renegotiation.
func TestR37_WeakTLSIsRefused(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	// With an RSA key, RSA key exchange would be possible.
	if err := certs.ca.WriteFolder(certs.dir, "rsa.example", devcert.Leaf{Names: []string{"rsa.example"}, Key: devcert.RSA2048}); err != nil {
		t.Fatal(err)
	}
	for name, environment := range map[string][]string{"plain": {"GODEBUG="}, "GODEBUG": {weakGODEBUG}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, setup{certificates: certs, backend: server.address, environment: environment})
			for _, port := range p.ports() {
				requireOldVersionsRefused(t, port)
				requireWeakSuitesRefused(t, port)
				requireNoRenegotiation(t, port)
			}
		})
	}
}

// atLevel0 are arguments for openssl to offer all that it has.
var atLevel0 = []string{"-cipher", "ALL:@SECLEVEL=0", "-servername", "rsa.example", "-brief"}

func requireOldVersionsRefused(t *testing.T, to port) {
	t.Helper()
	for _, version := range []string{"-tls1", "-tls1_1"} {
		r := sClient(t, to.address, append(append([]string{version}, to.openssl...), atLevel0...)...)
		if r.code == 0 || strings.Contains(r.output, "CONNECTION ESTABLISHED") || !strings.Contains(r.output, "alert protocol version") {
			t.Errorf("port %s: %s is not refused with its alert:\n%s", to.name, version, indent(r.output))
		}
	}
	r := sClient(t, to.address, append(append([]string{"-tls1_2"}, to.openssl...), atLevel0...)...)
	r.requireCode(t, 0) // the same client with a version that is fine
	r.requireOutput(t, "CONNECTION ESTABLISHED", "TLSv1.2")
}

// TestR37_EnvironmentThatCanNotBeUndone: no option switches SHA-1 signatures off
// again, so the proxy does not start with them.
func TestR37_EnvironmentThatCanNotBeUndone(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	s := setup{certificates: certs, backend: loopback(t)}.complete(t)
	file := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, file, s.yaml())
	command := exec.Command(builtBinary(t), "serve", "--config", file)
	command.Env = append(os.Environ(), "GODEBUG=tlssha1=1")
	output, err := command.CombinedOutput()
	if err == nil || command.ProcessState.ExitCode() != 1 || !strings.Contains(string(output), "GODEBUG=tlssha1=1 allows signatures with SHA-1") {
		t.Errorf("%v\n%s", err, output)
	}
}

// TestR37_OldVersionsOnlyWhereNamed is the control for the test above: the
// same openssl connects where the configuration names the old version.
func TestR37_OldVersionsOnlyWhereNamed(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address, tls: "min_version: TLSv1"})
	for _, port := range p.ports() {
		for option, version := range map[string]string{"-tls1": "TLSv1", "-tls1_1": "TLSv1.1", "-tls1_2": "TLSv1.2"} {
			r := sClient(t, port.address, append(append([]string{option}, port.openssl...), atLevel0...)...)
			r.requireCode(t, 0)
			r.requireOutput(t, "Protocol version: "+version+"\n")
		}
	}
}

// requireWeakSuitesRefused offers one suite at a time, with the Go client,
// which has 3DES where Debian's openssl has not.
func requireWeakSuitesRefused(t *testing.T, to port) {
	t.Helper()
	for _, suite := range append(tls.InsecureCipherSuites(), tls.CipherSuites()...) {
		strong := strings.HasPrefix(suite.Name, "TLS_ECDHE_RSA_") && (strings.Contains(suite.Name, "_GCM_") || strings.Contains(suite.Name, "CHACHA20"))
		if suite.SupportedVersions[0] == tls.VersionTLS13 || strings.HasPrefix(suite.Name, "TLS_ECDHE_ECDSA_") {
			continue
		}
		c := atHandshake(t, to, "")
		err := c.startTLS(&tls.Config{
			ServerName: "rsa.example", InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID},
		})
		switch {
		case strong && err != nil:
			t.Errorf("port %s: %s: %v", to.name, suite.Name, err)
		case !strong && err == nil:
			t.Errorf("port %s: %s is accepted", to.name, suite.Name)
		case !strong && !strings.Contains(err.Error(), "handshake failure"):
			t.Errorf("port %s: %s fails otherwise: %v", to.name, suite.Name, err)
		}
		c.close()
	}
}

// requireNoRenegotiation has openssl ask for one within a session.
func requireNoRenegotiation(t *testing.T, to port) {
	t.Helper()
	arguments := append([]string{"s_client", "-connect", to.address, "-tls1_2", "-servername", "rsa.example"}, to.openssl...)
	command := exec.Command("openssl", arguments...)
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	openssl := startProcess(t, "openssl", filepath.Join(t.TempDir(), "openssl.log"), command)
	openssl.waitLog(t, "Extended master secret") // its last words on the handshake
	if to.name == "465" {
		openssl.waitLog(t, "220 recorder.test")
	}
	if _, err := io.WriteString(input, "R\n"); err != nil {
		t.Fatal(err)
	}
	code := openssl.waitExit(t, patience)
	output := openssl.logged()
	refused := strings.Contains(output, "no renegotiation") || strings.Contains(output, "unexpected message")
	if !strings.Contains(output, "RENEGOTIATING") || !refused || code == 0 {
		t.Errorf("port %s: exit code %d; the renegotiation was not refused:\n%s", to.name, code, indent(tail(output, 30)))
	}
}
