package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/demo"
)

// TestStaplingIsOverridden: each group of options may say otherwise than the one
// above it, both ways.
func TestStaplingIsOverridden(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name             string
		file, first, own string // ocsp_stapling of the file, of listener submissions, and of folder b.example
		a, b             bool   // want a staple
	}{
		{"by default", "", "", "", true, true},
		{"off", "off", "", "", false, false},
		{"on a listener", "off", "auto", "", true, true},
		{"off a listener", "auto", "off", "", false, false},
		{"in a folder", "off", "", "auto", false, true},
		{"in a folder of a listener", "auto", "off", "auto", false, true},
		{"off in a folder", "auto", "", "off", true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			pool := x509.NewCertPool()
			for _, name := range []string{"a.example", "b.example"} {
				pool.AddCert(stapled(t, s, name))
			}
			stapling := func(value string) string {
				if value == "" {
					return "{}"
				}
				return "{ocsp_stapling: " + value + "}"
			}
			s.write(t, "tls: "+stapling(test.file)+"\n"+strings.Replace(s.yaml(), "mode: implicit", "mode: implicit\n    tls: "+stapling(test.first), 1))
			if test.own != "" {
				put(t, []byte("ocsp_stapling: "+test.own), s.certs(), "b.example", "tls.yaml")
			}
			r := startServe(t, s)
			for name, want := range map[string]bool{"a.example": test.a, "b.example": test.b} {
				state, err := demo.Send(r.submissions, false, &tls.Config{ServerName: name, RootCAs: pool})
				if err != nil {
					t.Fatal(err)
				}
				if got := len(state.OCSPResponse) > 0; got != want {
					t.Errorf("%s: a staple is sent: %v, want %v", name, got, want)
				}
			}
		})
	}
}

// stapled gives a folder a certificate with an OCSP response, and returns the
// authority.
func stapled(t *testing.T, s *site, name string) *x509.Certificate {
	t.Helper()
	caKey, ca := signed(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name + " CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	key, leaf := signed(t, &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}}, ca, caKey)
	response, err := ocsp.CreateResponse(ca, ca, ocsp.Response{
		Status: ocsp.Good, SerialNumber: leaf.SerialNumber, ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
	}, caKey)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
	put(t, chain, s.certs(), name, "cert.pem")
	put(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), s.certs(), name, "key.pem")
	put(t, response, s.certs(), name, "ocsp.der")
	return ca
}

// signed makes a certificate of an authority, or one signed by itself.
func signed(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

func put(t *testing.T, data []byte, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), data, 0o600); err != nil {
		t.Fatal(err)
	}
}
