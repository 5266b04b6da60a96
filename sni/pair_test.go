package sni_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

func TestLayouts(t *testing.T) {
	chain, key := issue(t, "a.example")
	leaf, _ := issue(t, "a.example")
	tests := map[string]map[string][]byte{
		"plain":      {"cert.pem": chain, "key.pem": key},
		"certbot":    {"cert.pem": leaf, "chain.pem": nil, "fullchain.pem": chain, "privkey.pem": key},
		"kubernetes": {"tls.crt": chain, "tls.key": key, "ca.crt": leaf},
		"first wins": {"cert.pem": chain, "key.pem": key, "tls.crt": leaf, "tls.key": nil},
	}
	for name, files := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range files {
				write(t, data, dir, "a.example", file)
			}
			cert := get(t, open(t, dir, sni.Options{}), "a.example")
			if want, _ := pem.Decode(chain); !bytes.Equal(cert.Leaf.Raw, want.Bytes) {
				t.Error("another certificate is served")
			}
		})
	}
}

// broken are folders that cannot be served, and what the error says.
func broken(t *testing.T) map[string]struct {
	make func(folder string)
	want string
} {
	chain, key := issue(t, "a.example")
	_, other := issue(t, "a.example")
	weakChain, weakKey, err := authority().Issue(devcert.Leaf{Names: []string{"a.example"}, Key: devcert.RSA1024})
	must(t, err)
	pair := func(chain, key []byte) func(string) {
		return func(folder string) {
			write(t, chain, folder, "cert.pem")
			write(t, key, folder, "key.pem")
		}
	}
	return map[string]struct {
		make func(folder string)
		want string
	}{
		"empty folder": {func(f string) { must(t, os.MkdirAll(f, 0o755)) }, "no certificate; looked for cert.pem with key.pem, fullchain.pem"},
		"no key":       {func(f string) { write(t, chain, f, "tls.crt") }, "tls.key is missing beside tls.crt"},
		"no chain":     {func(f string) { write(t, key, f, "privkey.pem") }, "fullchain.pem is missing beside privkey.pem"},
		"mismatch":     {pair(chain, other), "cert.pem and key.pem: the private key does not match"},
		"swapped":      {pair(key, chain), "cert.pem and key.pem: no PEM block \"CERTIFICATE\""},
		"empty chain":  {pair(nil, key), "certificate file is empty"},
		"not PEM":      {pair([]byte("hello"), key), "no PEM block"},
		"short RSA":    {pair(weakChain, weakKey), "1024 bits"},
		"too large":    {pair(append(chain, bytes.Repeat([]byte("\n"), 1<<20)...), key), "cert.pem: larger than 1048576 bytes"},
		"directory":    {func(f string) { pair(chain, key)(f); mkdirOver(t, f, "key.pem") }, "key.pem: not a regular file"},
		"FIFO": {func(f string) {
			write(t, chain, f, "cert.pem")
			must(t, syscall.Mkfifo(filepath.Join(f, "key.pem"), 0o600))
		}, "key.pem: not a regular file"},
	}
}

func mkdirOver(t *testing.T, path ...string) {
	must(t, os.Remove(filepath.Join(path...)))
	must(t, os.Mkdir(filepath.Join(path...), 0o755))
}

func TestR28_BrokenFolderHurtsNoOther(t *testing.T) {
	for name, tt := range broken(t) {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, "good.example")
			tt.make(filepath.Join(dir, "bad.example"))
			var r record
			s := open(t, dir, sni.Options{Default: "good.example", Events: r.events()})
			_, err := s.Certificate(t.Context(), s.Lookup("bad.example"))
			var folder *sni.FolderError
			if !errors.As(err, &folder) || folder.Folder != "bad.example" {
				t.Fatalf("error %T %v, want a *FolderError", err, err)
			}
			if !strings.HasPrefix(err.Error(), filepath.Join(dir, "bad.example")) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
			if strings.Contains(err.Error(), "PRIVATE KEY-----") {
				t.Errorf("R31: key material in %q", err)
			}
			if got := get(t, s, "bad.example").Leaf.DNSNames[0]; got != "good.example" {
				t.Errorf("bad.example got %s, want the default", got)
			}
			for range 2 {
				_ = s.Reload(t.Context())
			}
			if n := r.count("failed bad.example: "); n != 1 {
				t.Errorf("told %d times: %q", n, r.all())
			}
		})
	}
}

func TestR32_ChainAndKeyTypes(t *testing.T) {
	for name, kind := range map[string]devcert.KeyType{"ECDSA": devcert.ECDSA, "RSA": devcert.RSA2048, "Ed25519": devcert.Ed25519} {
		chain, key, err := authority().Issue(devcert.Leaf{Names: []string{"a.example"}, Key: kind})
		must(t, err)
		dir := t.TempDir()
		write(t, append(chain, authority().PEM()...), dir, "a.example", "cert.pem")
		write(t, key, dir, "a.example", "key.pem")
		cert := get(t, open(t, dir, sni.Options{}), "a.example")
		last, _ := pem.Decode(authority().PEM())
		if len(cert.Certificate) != 2 || !bytes.Equal(cert.Certificate[0], cert.Leaf.Raw) || !bytes.Equal(cert.Certificate[1], last.Bytes) {
			t.Errorf("%s: the chain is not served as it is in the file", name)
		}
	}
}

func TestR32_MissingIntermediate(t *testing.T) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"a.example"}, IssuingCertificateURL: []string{"http://ca.example/i.der"},
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "intermediate"}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, signer.Public(), signer)
	must(t, err)
	key, err := x509.MarshalPKCS8PrivateKey(signer)
	must(t, err)
	dir := t.TempDir()
	write(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), dir, "a.example", "cert.pem")
	write(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), dir, "a.example", "key.pem")
	var r record
	open(t, dir, sni.Options{Events: r.events()})
	if r.count("warning a.example: "+filepath.Join(dir, "a.example", "cert.pem")+": the chain has no intermediate") != 1 {
		t.Errorf("no warning: %q", r.all())
	}
}

func TestR28_UnreadableKey(t *testing.T) {
	dir := tree(t, "a.example")
	hook := func(path string) (*os.File, error) { // the tests may run as root, who reads everything
		if strings.HasSuffix(path, "key.pem") {
			return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.EACCES}
		}
		return sni.OpenNow(path)
	}
	_, err := sni.OpenHooked(dir, sni.Options{}, sni.Hooks{Open: hook})
	want := filepath.Join(dir, "a.example", "key.pem") + ": permission denied; make it readable for user id"
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v does not say %q", err, want)
	}
}

func TestR28_NothingUsable(t *testing.T) {
	dir := t.TempDir()
	write(t, nil, dir, "a.example", "cert.pem")
	if s, err := sni.Open(dir, sni.Options{}); err == nil {
		_ = s.Close()
		t.Error("opened without a usable pair")
	}
}

func TestR30_R31_Warnings(t *testing.T) {
	now := time.Now()
	tests := []struct {
		name, folder string
		leaf         devcert.Leaf
		keyMode      os.FileMode
		want         string
	}{
		{"fine", "a.example", devcert.Leaf{Names: []string{"a.example"}}, 0o640, ""},
		{"fine wildcard", "_.example.com", devcert.Leaf{Names: []string{"*.example.com"}}, 0o600, ""},
		{"fine fallback", "default", devcert.Leaf{Names: []string{"a.example"}}, 0o600, ""},
		{"not covered", "a.example", devcert.Leaf{Names: []string{"b.example", "c.example"}}, 0o600, "does not cover the folder's name a.example: its names are b.example, c.example"},
		{"wildcard not covered", "*.example.com", devcert.Leaf{Names: []string{"a.example.com"}}, 0o600, "does not cover the folder's name *.example.com"},
		{"expired", "a.example", devcert.Leaf{Names: []string{"a.example"}, NotBefore: now.Add(-2 * time.Hour), Lifetime: time.Hour}, 0o600, "expired at"},
		{"not yet", "a.example", devcert.Leaf{Names: []string{"a.example"}, NotBefore: now.Add(time.Hour)}, 0o600, "is not valid before"},
		{"world-readable", "a.example", devcert.Leaf{Names: []string{"a.example"}}, 0o644, "key.pem: the file can be read by everyone (mode 0644)"},
		{"group-writable", "a.example", devcert.Leaf{Names: []string{"a.example"}}, 0o660, "key.pem: the file can be written by others (mode 0660)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, authority().WriteFolder(dir, tt.folder, tt.leaf))
			must(t, os.Chmod(filepath.Join(dir, tt.folder, "key.pem"), tt.keyMode))
			var r record
			s := open(t, dir, sni.Options{Events: r.events()})
			get(t, s, "") // served nevertheless
			warnings := slices.DeleteFunc(r.all(), func(line string) bool { return !strings.HasPrefix(line, "warning ") })
			if tt.want == "" && len(warnings) > 0 || tt.want != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], tt.want)) {
				t.Errorf("warnings %q, want %q", warnings, tt.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	dir := tree(t, "a.example", "*.example.com")
	must(t, authority().WriteFolder(dir, "b.example", devcert.Leaf{Names: []string{"other.example"}}))
	must(t, os.Mkdir(filepath.Join(dir, "c.example"), 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "D.example"), 0o755))
	reports, err := sni.Check(dir, sni.Options{})
	must(t, err)
	var got []string
	for r := range reports {
		line := r.Folder
		if (len(r.Certificates) == 0) != (r.Err != nil) {
			t.Errorf("%s: certificates %v with error %v", r.Folder, r.Certificates, r.Err)
		}
		if r.Err != nil {
			line += " error"
		}
		if len(r.Warnings) > 0 {
			line += " warning"
		}
		got = append(got, line)
	}
	want := []string{"*.example.com", "a.example", "b.example warning", "c.example error", "D.example error"}
	if !slices.Equal(got, want) {
		t.Errorf("reports %q, want %q", got, want)
	}
	for range reports {
		break // a caller may stop
	}
	if _, err := sni.Check("/no/such/certs", sni.Options{}); err == nil {
		t.Error("no error for a directory that does not exist")
	}
}
