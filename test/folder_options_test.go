package test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	needs "github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// handshakeWith opens a connection under a name and returns what came of it.
func handshakeWith(t *testing.T, to port, config *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	c := dial(t, to.address, "")
	if err := c.enter(to, config); err != nil {
		return tls.ConnectionState{}, err
	}
	return c.conn.(*tls.Conn).ConnectionState(), nil
}

// runIn runs openssl with a folder as its own.
func runIn(t *testing.T, dir string, arguments ...string) {
	t.Helper()
	program := needs.Program(t, "openssl")
	r := runProgram(t, "sh", append([]string{"-c", `cd "$0" && exec "$@"`, dir, program}, arguments...)...)
	r.requireCode(t, 0)
}

// TestFolder_Layouts serves each form in which a folder may hold its pairs.
func TestFolder_Layouts(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	folder := func(name string) string { return filepath.Join(certs.dir, name) }
	write := func(name string, leaf devcert.Leaf, files ...string) {
		leaf.Names = []string{name}
		cert, key, err := certs.ca.Issue(leaf)
		if err != nil {
			t.Fatal(err)
		}
		for i, text := range []string{string(cert), string(key)} {
			if i < len(files) {
				writeFile(t, filepath.Join(folder(name), files[i]), text)
			}
		}
		if len(files) == 1 {
			writeFile(t, filepath.Join(folder(name), files[0]), string(key)+string(cert))
		}
	}
	write("certbot.example", devcert.Leaf{}, "fullchain.pem", "privkey.pem")
	write("kubernetes.example", devcert.Leaf{}, "tls.crt", "tls.key")
	write("bundle.example", devcert.Leaf{}, "bundle.pem")
	write("pfx.example", devcert.Leaf{}, "c.crt", "k.key")
	runIn(t, folder("pfx.example"), "pkcs12", "-export", "-in", "c.crt", "-inkey", "k.key", "-out", "mail.pfx", "-passout", "pass:secret")
	mustRemove(t, filepath.Join(folder("pfx.example"), "c.crt"), filepath.Join(folder("pfx.example"), "k.key"))
	writeFile(t, filepath.Join(folder("pfx.example"), "passphrase"), "secret\n")
	write("encrypted.example", devcert.Leaf{}, "cert.pem", "plain.key")
	runIn(t, folder("encrypted.example"), "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", "plain.key", "-out", "key.pem", "-passout", "pass:other")
	mustRemove(t, filepath.Join(folder("encrypted.example"), "plain.key"))
	writeFile(t, filepath.Join(folder("encrypted.example"), "tls.yaml"), "passphrase_file: ../../other.txt\n")
	writeFile(t, filepath.Join(certs.dir, "..", "other.txt"), "other\n")
	write("both.example", devcert.Leaf{}, "cert.pem", "key.pem")
	write("both.example", devcert.Leaf{Key: devcert.RSA2048}, "cert-rsa.pem", "key-rsa.pem")

	p := startProxy(t, setup{certificates: certs, backend: startRecorder(t, withHeader).address})
	for _, port := range p.ports() {
		for _, name := range []string{"certbot", "kubernetes", "bundle", "pfx", "encrypted", "both"} {
			name += ".example"
			if _, err := handshakeWith(t, port, clientOptions{serverName: name, trust: certs}.config()); err != nil {
				t.Errorf("port %s, %s: %v", port.name, name, err)
			}
		}
		for suite, kind := range map[uint16]string{
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   "RSA",
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "ECDSA",
		} {
			config := clientOptions{serverName: "both.example", trust: certs, maxVersion: tls.VersionTLS12}.config()
			config.CipherSuites = []uint16{suite}
			state, err := handshakeWith(t, port, config)
			if err != nil || state.PeerCertificates[0].PublicKeyAlgorithm.String() != kind {
				t.Errorf("port %s: a client of %s gets %v", port.name, kind, err)
			}
		}
	}
	if r := runBinary(t, "check", "--offline", "--config", p.file); r.code != 0 || strings.Count(r.output, "both.example") < 2 {
		t.Errorf("check:\n%s", r.output)
	}
}

// TestFolder_Overrides: what a folder's tls.yaml and ca.pem say holds for its
// name and for no other.
func TestFolder_Overrides(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	writeFile(t, filepath.Join(certs.dir, "b.example", "tls.yaml"), "min_version: TLSv1.3\n")
	writeFile(t, filepath.Join(certs.dir, "c.example", "tls.yaml"), "client_auth: {mode: require}\n")
	writeFile(t, filepath.Join(certs.dir, "c.example", "ca.pem"), string(certs.ca.PEM()))
	oracle := startAiosmtpd(t)
	p := startProxy(t, setup{certificates: certs, backend: oracle.address})

	cert, key, err := certs.ca.Issue(devcert.Leaf{Names: []string{"alice"}})
	if err != nil {
		t.Fatal(err)
	}
	alice, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range p.ports() {
		for name, works := range map[string]bool{"a.example": true, "b.example": false} {
			_, err := handshakeWith(t, port, clientOptions{serverName: name, trust: certs, maxVersion: tls.VersionTLS12}.config())
			if (err == nil) != works {
				t.Errorf("port %s: TLS 1.2 for %s: %v", port.name, name, err)
			}
		}
		config := clientOptions{serverName: "c.example", trust: certs, maxVersion: tls.VersionTLS12}.config()
		if _, err := handshakeWith(t, port, config); err == nil {
			t.Errorf("port %s: c.example takes a client without a certificate", port.name)
		}
		config = clientOptions{serverName: "c.example", trust: certs}.config()
		config.Certificates = []tls.Certificate{alice}
		c := dial(t, port.address, "")
		if err := c.enter(port, config); err != nil {
			c.fatal(t, err)
		}
		marker := newMarker()
		c.mailTo(t, marker, "user@a.example")
		c.must(t, 354, "DATA")
		c.must(t, 250, "Subject: x\r\n\r\ntext\r\n.")
		c.must(t, 221, "QUIT")
		header, _ := oracle.waitSession(t, marker)
		if cn, _ := header.tlv("SSL_CN"); cn != "alice" {
			t.Errorf("port %s: the backend hears of the client %q", port.name, cn)
		}
	}
	r := runBinary(t, "check", "--offline", "--verbose", "--config", p.file)
	r.requireCode(t, 0)
	r.requireOutput(t, "TLS OF DOMAIN b.example ON LISTENER submissions", "TLS OF DOMAIN c.example ON LISTENER submission", "client certs  require")
	writeFile(t, filepath.Join(certs.dir, "b.example", "tls.yaml"), "min_versoin: TLSv1.3\nmax_version: TLSv1.1\n")
	r = runBinary(t, "check", "--offline", "--config", p.file)
	r.requireCode(t, 1)
	r.requireOutput(t, `b.example/tls.yaml:1:1: unknown key "min_versoin": did you mean "min_version"?`)
}

// TestFolder_Status: a broken folder is named with its reason in /status.json
// and by a metric, until it is mended.
func TestFolder_Status(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: startRecorder(t, withHeader).address})
	now := p.status(t, "")
	if !now.Ready || len(now.Listeners) != 2 || now.Certificates.Indexed != 4 || now.Certificates.States.Broken != 0 {
		t.Errorf("status %+v", now)
	}
	key := filepath.Join(certs.dir, "a.example", "key.pem")
	good, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, key, "broken")
	eventually(t, "the folder is named", func() bool {
		all := p.status(t, "?state=broken").Certificates.Domains.List
		return len(all) == 1 && all[0].Name == "a.example" && strings.Contains(all[0].Fault, "key.pem")
	})
	if p.metric(t, `smtp_tlsproxy_certificate_load_failed{domain="a.example"}`) != "1" {
		t.Error("no metric names the folder")
	}
	if _, err := handshakeWith(t, p.ports()[0], clientOptions{serverName: "a.example", trust: certs}.config()); err != nil {
		t.Errorf("the last good pair is out of service: %v", err)
	}
	writeFile(t, key, string(good))
	eventually(t, "the folder is not named any more", func() bool { return p.status(t, "").Certificates.States.Broken == 0 })
	// All folders are looked through, asked for or not.
	for _, name := range append([]string{"*.w.example"}, domains...) {
		p.waitMetricSet(t, `smtp_tlsproxy_certificate_not_after_timestamp_seconds{domain="`+name+`",key_type="ecdsa"}`)
	}
}

// waitMetricSet waits until a series is there.
func (p *proxy) waitMetricSet(t testing.TB, name string) {
	t.Helper()
	eventually(t, name+" is there", func() bool { return p.metric(t, name) != "" })
}
