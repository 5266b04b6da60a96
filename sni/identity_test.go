package sni_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// issueKey is issue for a key type.
func issueKey(t testing.TB, key devcert.KeyType, name string) (chainPEM, keyPEM []byte) {
	t.Helper()
	chainPEM, keyPEM, err := authority().Issue(devcert.Leaf{Names: []string{name}, Key: key})
	must(t, err)
	return chainPEM, keyPEM
}

// identity asks for what a folder holds.
func identity(t testing.TB, s *sni.Store, name string) *sni.Identity {
	t.Helper()
	id, err := s.Identity(t.Context(), s.Lookup(name))
	must(t, err)
	return id
}

func keyTypes(id *sni.Identity) []string {
	var kinds []string
	for _, cert := range id.Certificates {
		kinds = append(kinds, strings.ToLower(cert.Leaf.PublicKeyAlgorithm.String()))
	}
	slices.Sort(kinds)
	return kinds
}

func TestKeyTypesSideBySide(t *testing.T) {
	rsaChain, rsaKey := issueKey(t, devcert.RSA2048, "a.example")
	ecChain, ecKey := issueKey(t, devcert.ECDSA, "a.example")
	edChain, edKey := issueKey(t, devcert.Ed25519, "a.example")
	tests := []struct {
		name  string
		files map[string][]byte
		want  []string
	}{
		{"bundle", map[string][]byte{"bundle.pem": append(ecKey, ecChain...)}, []string{"ecdsa"}},
		{"bundle of two", map[string][]byte{"bundle.pem": slices.Concat(rsaChain, ecChain, rsaKey, ecKey)}, []string{"ecdsa", "rsa"}},
		{"second pairs", map[string][]byte{
			"cert.pem": ecChain, "key.pem": ecKey, "cert-rsa.pem": rsaChain, "key-rsa.pem": rsaKey, "cert-ed25519.pem": edChain, "key-ed25519.pem": edKey,
		}, []string{"ecdsa", "ed25519", "rsa"}},
		{"named pairs alone", map[string][]byte{"cert-rsa.pem": rsaChain, "key-rsa.pem": rsaKey, "cert-ecdsa.pem": ecChain, "key-ecdsa.pem": ecKey}, []string{"ecdsa", "rsa"}},
		{"HAProxy's bundles", map[string][]byte{"mail.pem.rsa": append(rsaChain, rsaKey...), "mail.pem.ecdsa": append(ecChain, ecKey...)}, []string{"ecdsa", "rsa"}},
		{"bundle beside a pair", map[string][]byte{"tls.crt": rsaChain, "tls.key": rsaKey, "x.ecdsa": append(ecChain, ecKey...)}, []string{"ecdsa", "rsa"}},
		{"the same type twice", map[string][]byte{"cert.pem": ecChain, "key.pem": ecKey, "cert-ecdsa.pem": ecChain, "key-ecdsa.pem": ecKey}, []string{"ecdsa"}},
		{"certbot's cert.pem", map[string][]byte{"cert.pem": rsaChain, "fullchain.pem": ecChain, "privkey.pem": ecKey}, []string{"ecdsa"}},
		{"cert-manager's extras", map[string][]byte{"tls.crt": ecChain, "tls.key": ecKey, "ca.crt": rsaChain, "tls-combined.pem": nil, "key.der": nil, "keystore.p12": []byte("x")}, []string{"ecdsa"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range tt.files {
				write(t, data, dir, "a.example", file)
			}
			var r record
			s := open(t, dir, sni.Options{Events: r.events()})
			id := identity(t, s, "a.example")
			if got := keyTypes(id); !slices.Equal(got, tt.want) {
				t.Errorf("key types %v, want %v", got, tt.want)
			}
			if warned := r.count("warning a.example: ") > 0; warned != (tt.name == "the same type twice") {
				t.Errorf("events %q", r.all())
			}
		})
	}
}

// TestR32_ClientSupport shows that each client gets the pair that it supports.
func TestR32_ClientSupport(t *testing.T) {
	dir := t.TempDir()
	for file, key := range map[string]devcert.KeyType{"x.rsa": devcert.RSA2048, "x.ecdsa": devcert.ECDSA} {
		chainPEM, keyPEM := issueKey(t, key, "a.example")
		write(t, append(chainPEM, keyPEM...), dir, "a.example", file)
	}
	s := open(t, dir, sni.Options{})
	tests := []struct {
		suite uint16
		want  x509.PublicKeyAlgorithm
	}{
		{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, x509.RSA},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, x509.ECDSA},
	}
	for _, tt := range tests {
		client := &tls.Config{ServerName: "a.example", RootCAs: authority().Pool(), MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tt.suite}}
		_, state, err := handshakeState(t, s, client)
		must(t, err)
		if got := state.PeerCertificates[0].PublicKeyAlgorithm; got != tt.want {
			t.Errorf("%s: got %v, want %v", tls.CipherSuiteName(tt.suite), got, tt.want)
		}
	}
}

// TestLastGoodByKeyType shows that a pair that cannot be renewed keeps out no
// other of the folder.
func TestLastGoodByKeyType(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "a.example")
	put := func(file string, key devcert.KeyType) {
		chainPEM, keyPEM := issueKey(t, key, "a.example")
		write(t, append(chainPEM, keyPEM...), folder, file)
	}
	put("x.rsa", devcert.RSA2048)
	put("x.ecdsa", devcert.ECDSA)
	var r record
	s := open(t, dir, sni.Options{Rescan: never, Events: r.events()})
	before := identity(t, s, "a.example")
	write(t, []byte("half"), folder, "x.rsa")
	put("x.ecdsa", devcert.ECDSA)
	eventually(t, "the fault is told", r.has("failed a.example: "))
	eventually(t, "the ECDSA pair is renewed", func() bool {
		return serial(identity(t, s, "a.example").Certificates[0]) != serial(before.Certificates[0])
	})
	if now := identity(t, s, "a.example"); len(now.Certificates) != 2 || serial(now.Certificates[1]) != serial(before.Certificates[1]) {
		t.Error("the last good RSA pair is not in service")
	}
	put("x.rsa", devcert.RSA2048)
	eventually(t, "the RSA pair is renewed", func() bool {
		return serial(identity(t, s, "a.example").Certificates[1]) != serial(before.Certificates[1])
	})
	must(t, os.Remove(filepath.Join(folder, "x.rsa")))
	eventually(t, "the RSA pair is gone", func() bool { return len(identity(t, s, "a.example").Certificates) == 1 })

	// From the start, the good pair is served and the other reported.
	write(t, []byte("half"), folder, "x.rsa")
	reports, err := sni.Check(dir, sni.Options{})
	must(t, err)
	for report := range reports {
		if len(report.Certificates) != 1 || report.Err == nil || !strings.Contains(report.Err.Error(), "x.rsa: ") {
			t.Errorf("report %+v", report)
		}
	}
	must(t, open(t, dir, sni.Options{}).Close())
}

// settings are a folder's own, as a program would read them.
type settings struct{ passphrase, text string }

func (s settings) PassphraseFile() string { return s.passphrase }

func readSettings(path string, data []byte) (any, error) {
	if strings.Contains(string(data), "wrong") {
		return nil, fmt.Errorf("%s:1: wrong", filepath.Base(path))
	}
	name, _ := strings.CutPrefix(string(data), "passphrase_file: ")
	if name == string(data) {
		name = ""
	}
	return settings{passphrase: name, text: string(data)}, nil
}

// encrypted makes a folder with an encrypted key and one with a PKCS #12 file.
func encrypted(t *testing.T, dir, passphrase string) {
	t.Helper()
	program := need.Program(t, "openssl")
	chainPEM, keyPEM := issueKey(t, devcert.ECDSA, "a.example")
	write(t, chainPEM, dir, "a.example", "cert.pem")
	write(t, keyPEM, dir, "plain.pem")
	run := func(args ...string) {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v: %s", args[0], err, output)
		}
	}
	run("pkcs8", "-topk8", "-in", "plain.pem", "-out", "a.example/key.pem", "-v2", "aes-256-cbc", "-iter", "1000", "-passout", "pass:"+passphrase)
	must(t, os.Mkdir(filepath.Join(dir, "b.example"), 0o755))
	run("pkcs12", "-export", "-in", "a.example/cert.pem", "-inkey", "plain.pem", "-out", "b.example/mail.pfx", "-iter", "1000", "-passout", "pass:"+passphrase)
	must(t, os.Chmod(filepath.Join(dir, "b.example", "mail.pfx"), 0o600))
}

func TestPassphrase(t *testing.T) {
	dir := t.TempDir()
	encrypted(t, dir, "s3cret")
	renew(t, dir, "default.example")
	write(t, []byte("s3cret\r\n"), dir, "aside", "secret")
	tests := []struct {
		name string
		file string // passphrase
		yaml string
		want string // of the error
	}{
		{"none", "", "", "no passphrase was given"},
		{"wrong", "guess\n", "", "the passphrase does not open the private key"},
		{"in the folder", "s3cret\n", "", ""},
		{"without a line ending", "s3cret", "", ""},
		{"elsewhere", "guess", "passphrase_file: ../aside/secret", ""},
		{"elsewhere, absolute", "", "passphrase_file: " + filepath.Join(dir, "aside", "secret"), ""},
		{"elsewhere, missing", "s3cret", "passphrase_file: ../aside/none", "aside/none: no such file"},
	}
	for _, tt := range tests {
		for _, folder := range []string{"a.example", "b.example"} {
			t.Run(tt.name+" "+folder, func(t *testing.T) {
				for name, data := range map[string]string{"passphrase": tt.file, "tls.yaml": tt.yaml} {
					if data == "" {
						_ = os.Remove(filepath.Join(dir, folder, name))
					} else {
						write(t, []byte(data), dir, folder, name)
					}
				}
				s := open(t, dir, sni.Options{Default: "default.example", Rescan: never, FolderOptions: readSettings})
				_, err := s.Identity(t.Context(), s.Lookup(folder))
				if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("error %v, want %q", err, tt.want)
				}
				if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "guess")) {
					t.Errorf("R31: the passphrase is in %v", err)
				}
			})
		}
	}
}

func TestFolderOptions(t *testing.T) {
	dir := tree(t, "a.example", "b.example")
	write(t, []byte("min_version: TLSv1.3"), dir, "a.example", "tls.yaml")
	write(t, authority().PEM(), dir, "a.example", "ca.pem")
	var r record
	s := open(t, dir, sni.Options{Default: "b.example", Rescan: never, FolderOptions: readSettings, Events: r.events()})
	id := identity(t, s, "a.example")
	if got, ok := id.Options.(settings); !ok || got.text != "min_version: TLSv1.3" || id.ClientCA == nil || id.ClientCA.Len() != 1 {
		t.Errorf("options %v, client CA %v", id.Options, id.ClientCA)
	}
	if plain := identity(t, s, "b.example"); plain.Options != nil || plain.ClientCA != nil {
		t.Errorf("a folder without options has %+v", plain)
	}
	// Who may connect, and how, is not to be guessed: a fault leaves the last
	// good ones in service, pairs and all.
	write(t, []byte("wrong"), dir, "a.example", "tls.yaml")
	eventually(t, "the fault is told", r.has("failed a.example: "+filepath.Join(dir, "a.example", "tls.yaml")+": tls.yaml:1: wrong"))
	write(t, []byte("no PEM"), dir, "a.example", "ca.pem")
	write(t, []byte("max_version: TLSv1.3"), dir, "a.example", "tls.yaml")
	eventually(t, "the fault is told", r.has("failed a.example: "+filepath.Join(dir, "a.example", "ca.pem")))
	if identity(t, s, "a.example") != id {
		t.Error("another identity is in service")
	}
	must(t, os.Remove(filepath.Join(dir, "a.example", "ca.pem")))
	eventually(t, "the new options", func() bool { return identity(t, s, "a.example").Options.(settings).text == "max_version: TLSv1.3" })
	if now := identity(t, s, "a.example"); now.ClientCA != nil || r.count("renewed a.example") != 1 {
		t.Errorf("client CAs %v, events %q", now.ClientCA, r.all())
	}
}

func TestFolderOptionsNobodyReads(t *testing.T) {
	dir := tree(t, "a.example")
	write(t, nil, dir, "a.example", "tls.yaml")
	var r record
	open(t, dir, sni.Options{Events: r.events()})
	if r.count("warning a.example: "+filepath.Join(dir, "a.example", "tls.yaml")+": the file is not read") != 1 {
		t.Errorf("events %q", r.all())
	}
}

func TestConfig(t *testing.T) {
	s := open(t, tree(t, "a.example", "b.example"), sni.Options{Default: "a.example"})
	id := identity(t, s, "a.example")
	var built atomic.Int32
	build := func() *tls.Config { built.Add(1); return &tls.Config{MinVersion: tls.VersionTLS12} }
	listeners := [2]int{}
	first := id.Config(&listeners[0], build)
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			if id.Config(&listeners[0], build) != first {
				t.Error("R35: another configuration for the same listener")
			}
		})
	}
	clients.Wait()
	if id.Config(&listeners[1], build) == first || identity(t, s, "b.example").Config(&listeners[0], build) == first {
		t.Error("R35: one configuration for two listeners or two folders")
	}
	if n := built.Load(); n != 3 {
		t.Errorf("built %d times", n)
	}
	if n := testing.AllocsPerRun(100, func() { id.Config(&listeners[0], build) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	s.ForgetConfigs()
	if id.Config(&listeners[0], build) == first {
		t.Error("not forgotten")
	}
	for i := range 1000 {
		id.Config(i, build)
	}
	before := built.Load()
	id.Config(999, build)
	id.Config(0, build)
	if built.Load() != before+1 {
		t.Error("the oldest of many keys is not the one that was forgotten")
	}
	if id.Config("none", func() *tls.Config { return nil }) != nil {
		t.Error("no configuration became one")
	}
}

// ExampleIdentity_Config shows a listener with settings of its own.
func ExampleIdentity_Config() {
	dir := demoCerts()
	defer os.RemoveAll(dir)
	certs, err := sni.Open(dir, sni.Options{Default: "mail.example.com"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer certs.Close()

	type listener struct{ minVersion uint16 }
	submissions := &listener{minVersion: tls.VersionTLS13}
	config := &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			id, _, err := certs.Serve(hello.Context(), certs.Lookup(hello.ServerName))
			if id == nil {
				return nil, err // without an error: the alert unrecognized_name
			}
			return id.Config(submissions, func() *tls.Config {
				c := &tls.Config{MinVersion: submissions.minVersion, SessionTicketsDisabled: true, ClientCAs: id.ClientCA.Pool()}
				c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return id.Certificate(c, hello), nil }
				return c
			}), nil
		},
		SessionTicketsDisabled: true,
	}
	_ = config // for tls.Server

	id, match, _ := certs.Serve(context.Background(), certs.Lookup("mail.example.com"))
	fmt.Println(match.Kind, id.Folder, len(id.Certificates))
	// Output: exact mail.example.com 1
}
