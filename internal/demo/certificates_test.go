package demo_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/demo"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func TestCertificates(t *testing.T) {
	base := t.TempDir()
	dir, caFile := filepath.Join(base, "certs"), filepath.Join(base, "ca.pem")
	if err := demo.Certificates(dir, caFile); err != nil {
		t.Fatal(err)
	}
	caPEM, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(caPEM) {
		t.Fatalf("no certificate in %s", caPEM)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, e := range entries {
		folders = append(folders, e.Name())
	}
	want := slices.Sorted(slices.Values(demo.Names))
	if !slices.Equal(folders, want) {
		t.Errorf("folders %q, want %q", folders, want)
	}
	for _, name := range demo.Names {
		verify(t, pool, dir, name, name)
	}
	verify(t, pool, dir, "localhost", "127.0.0.1")
	verify(t, pool, dir, "localhost", "::1")
}

// verify checks that the folder's pair is one that a client who wants name
// accepts.
func verify(t *testing.T, pool *x509.CertPool, dir, folder, name string) {
	t.Helper()
	chain, err := os.ReadFile(filepath.Join(dir, folder, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, folder, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tlsopts.ParsePair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
		t.Errorf("%s: %v", folder, err)
	}
}

func TestCertificatesThatCannotBeWritten(t *testing.T) {
	base := t.TempDir()
	if err := demo.Certificates(filepath.Join(base, "certs"), filepath.Join(base, "missing", "ca.pem")); err == nil {
		t.Error("no error for a file in no folder")
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := demo.Certificates(file, filepath.Join(base, "ca.pem")); err == nil {
		t.Error("no error for a directory that is a file")
	}
}
