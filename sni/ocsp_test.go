package sni_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/freeport"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// issuer is an authority with what OCSP needs.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	i := &issuer{key: key}
	i.cert = i.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "ocsp test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, key.Public())
	return i
}

func (i *issuer) sign(t *testing.T, template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	parent := i.cert
	if parent == nil {
		parent = template
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(0, 3, 0)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, i.key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

// mustStapleExtension is the TLS feature status_request (RFC 7633).
var mustStapleExtension = pkix.Extension{Id: []int{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}

// folder writes a chain and its key and returns the leaf.
func (i *issuer) folder(t *testing.T, dir, name, responder string, extensions ...pkix.Extension) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{DNSNames: []string{name}, ExtraExtensions: extensions}
	if responder != "" {
		template.OCSPServer = []string{"ldap://ignored.example", responder}
	}
	leaf := i.sign(t, template, key.Public())
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	write(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), dir, name, "key.pem")
	write(t, append(certPEM(leaf), certPEM(i.cert)...), dir, name, "cert.pem")
	return leaf
}

func certPEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// respond makes a response for leaf; a template without status is "good", and
// one without times is valid from an hour ago to in an hour.
func (i *issuer) respond(t *testing.T, leaf *x509.Certificate, r ocsp.Response) []byte {
	t.Helper()
	r.SerialNumber = leaf.SerialNumber
	if r.ThisUpdate.IsZero() {
		r.ThisUpdate, r.NextUpdate = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	responder := i.cert
	if r.Certificate != nil {
		responder = r.Certificate
	}
	der, err := ocsp.CreateResponse(i.cert, responder, r, i.key)
	must(t, err)
	return der
}

// opensslResponder runs openssl ocsp, which knows leaf, at an address.
func (i *issuer) opensslResponder(t *testing.T, address string, leaf *x509.Certificate) {
	t.Helper()
	program, dir := need.Program(t, "openssl"), t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(i.key)
	must(t, err)
	write(t, certPEM(i.cert), dir, "ca.pem")
	write(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), dir, "ca.key")
	line := fmt.Sprintf("V\t%s\t\t%X\tunknown\t/CN=a\n", leaf.NotAfter.UTC().Format("060102150405Z"), leaf.SerialNumber)
	write(t, []byte(line), dir, "index.txt")
	_, port, err := net.SplitHostPort(address)
	must(t, err)
	cmd := exec.Command(program, "ocsp", "-index", "index.txt", "-port", port, "-rsigner", "ca.pem", "-rkey", "ca.key", "-CA", "ca.pem", "-nmin", "60")
	cmd.Dir = dir
	output, err := cmd.StderrPipe()
	must(t, err)
	cmd.Stdout = cmd.Stderr
	must(t, cmd.Start())
	lines := bufio.NewScanner(output)
	for lines.Scan() && !strings.Contains(lines.Text(), "waiting for OCSP client") {
	}
	drained := make(chan struct{})
	go func() { // it has one thread, which must not wait for us
		defer close(drained)
		for lines.Scan() {
		}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-drained; _ = cmd.Wait() })
}

// stapled returns the staple that a client gets.
func stapled(t *testing.T, s *sni.Store, name string) func() bool {
	return func() bool { return len(get(t, s, name).OCSPStaple) > 0 }
}

func TestStapleFromOpenSSL(t *testing.T) {
	i := newIssuer(t)
	dir, address := t.TempDir(), freeport.Loopback(t)
	leaf := i.folder(t, dir, "a.example", "http://"+address, mustStapleExtension)
	i.opensslResponder(t, address, leaf)
	var r record
	s := open(t, dir, sni.Options{Events: r.events()})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%q", r.all())
		}
	})
	eventually(t, "the staple", stapled(t, s, "a.example"))
	_, state, err := handshakeState(t, s, &tls.Config{ServerName: "a.example", InsecureSkipVerify: true})
	must(t, err)
	response, err := ocsp.ParseResponseForCert(state.OCSPResponse, leaf, i.cert)
	must(t, err)
	if response.Status != ocsp.Good {
		t.Errorf("stapled status %d", response.Status)
	}
	if r.count("stapled a.example") != 1 || r.count("warning") != 0 {
		t.Errorf("events %q", r.all())
	}
}

func TestStapleFile(t *testing.T) {
	i, other := newIssuer(t), newIssuer(t)
	customer := i.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "customer"}}, i.key.Public())
	delegate := i.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "responder"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}, i.key.Public())
	now := time.Now()
	tests := []struct {
		name    string
		make    func(leaf *x509.Certificate) []byte
		warning string // none: it is stapled
	}{
		{"good", func(leaf *x509.Certificate) []byte { return i.respond(t, leaf, ocsp.Response{}) }, ""},
		{"without end", func(leaf *x509.Certificate) []byte {
			return i.respond(t, leaf, ocsp.Response{ThisUpdate: now.Add(-time.Hour)})
		}, ""},
		{"delegated", func(leaf *x509.Certificate) []byte { return i.respond(t, leaf, ocsp.Response{Certificate: delegate}) }, ""},
		{"signed by a customer", func(leaf *x509.Certificate) []byte { return i.respond(t, leaf, ocsp.Response{Certificate: customer}) }, "not for OCSP"},
		{"signed by another", func(leaf *x509.Certificate) []byte { return other.respond(t, leaf, ocsp.Response{}) }, "signature"},
		{"for another", func(*x509.Certificate) []byte { return i.respond(t, customer, ocsp.Response{}) }, "no response matching"},
		{"expired", func(leaf *x509.Certificate) []byte {
			return i.respond(t, leaf, ocsp.Response{ThisUpdate: now.Add(-2 * time.Hour), NextUpdate: now.Add(-time.Hour)})
		}, "expired at"},
		{"not yet", func(leaf *x509.Certificate) []byte {
			return i.respond(t, leaf, ocsp.Response{ThisUpdate: now.Add(time.Hour), NextUpdate: now.Add(2 * time.Hour)})
		}, "not valid before"},
		{"revoked", func(leaf *x509.Certificate) []byte {
			return i.respond(t, leaf, ocsp.Response{Status: ocsp.Revoked, RevokedAt: now})
		}, "was revoked at"},
		{"unknown", func(leaf *x509.Certificate) []byte { return i.respond(t, leaf, ocsp.Response{Status: ocsp.Unknown}) }, "does not know"},
		{"garbage", func(*x509.Certificate) []byte { return []byte("hello") }, "asn1"},
		{"empty", func(*x509.Certificate) []byte { return nil }, "asn1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			leaf := i.folder(t, dir, "a.example", "")
			write(t, tt.make(leaf), dir, "a.example", "ocsp.der")
			var r record
			s := open(t, dir, sni.Options{Events: r.events()})
			if got := stapled(t, s, "a.example")(); got != (tt.warning == "") {
				t.Errorf("stapled: %v", got)
			}
			want := "warning a.example: " + filepath.Join(dir, "a.example", "ocsp.der") + ": the OCSP response is not stapled: "
			if tt.warning != "" && (r.count(want) != 1 || !strings.Contains(strings.Join(r.all(), "\n"), tt.warning)) {
				t.Errorf("events %q do not warn of %q", r.all(), tt.warning)
			}
			if tt.warning == "" && (r.count("warning") != 0 || r.count("stapled a.example") != 1) {
				t.Errorf("events %q", r.all())
			}
		})
	}
}

// TestStapleFileComesAndGoes shows that a new staple makes a new identity, so
// that what hangs on the old one is built again.
func TestStapleFileComesAndGoes(t *testing.T) {
	i, dir := newIssuer(t), t.TempDir()
	leaf := i.folder(t, dir, "a.example", "")
	var r record
	s := open(t, dir, sni.Options{Rescan: never, Events: r.events()})
	before, err := s.Identity(t.Context(), s.Lookup("a.example"))
	must(t, err)
	write(t, i.respond(t, leaf, ocsp.Response{}), dir, "a.example", "ocsp.der")
	eventually(t, "the staple", stapled(t, s, "a.example"))
	after, err := s.Identity(t.Context(), s.Lookup("a.example"))
	must(t, err)
	if after == before || before.Certificates[0].OCSPStaple != nil {
		t.Error("the old identity was changed")
	}
	must(t, os.Remove(filepath.Join(dir, "a.example", "ocsp.der")))
	eventually(t, "no staple", func() bool { return !stapled(t, s, "a.example")() })
	if r.count("renewed") != 0 {
		t.Errorf("a staple counts as a renewal: %q", r.all())
	}
}

func TestStaplePolicy(t *testing.T) {
	i := newIssuer(t)
	var asked counter
	var leaf *x509.Certificate
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.opened.Add(1)
		_, _ = w.Write(i.respond(t, leaf, ocsp.Response{}))
	}))
	defer responder.Close()
	tests := []struct {
		name    string
		options sni.Options
		folder  policy
		address string
		stapled bool
		warning string
	}{
		{"default", sni.Options{}, 0, responder.URL, true, ""},
		{"off", sni.Options{OCSP: sni.OCSPOff}, 0, responder.URL, false, "OCSP stapling is off"},
		{"off in the folder", sni.Options{}, policy(sni.OCSPOff), responder.URL, false, "OCSP stapling is off"},
		{"auto in the folder", sni.Options{OCSP: sni.OCSPOff}, policy(sni.OCSPAuto), responder.URL, true, ""},
		{"no responder", sni.Options{}, 0, "", false, "names no responder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			leaf = i.folder(t, dir, "a.example", tt.address, mustStapleExtension)
			write(t, nil, dir, "a.example", "tls.yaml")
			tt.options.FolderOptions = func(string, []byte) (any, error) { return tt.folder, nil }
			before := asked.opened.Load()
			var r record
			tt.options.Events = r.events()
			s := open(t, dir, tt.options)
			if tt.stapled {
				eventually(t, "the staple", stapled(t, s, "a.example"))
				return
			}
			must(t, s.Close()) // ends the fetchers
			if stapled(t, s, "a.example")() || asked.opened.Load() != before {
				t.Error("stapled, or asked for")
			}
			if !strings.Contains(strings.Join(r.all(), "\n"), tt.warning) || r.count("warning a.example") != 1 {
				t.Errorf("events %q do not warn of %q", r.all(), tt.warning)
			}
		})
	}
}

// policy is a folder's own.
type policy sni.OCSP

func (p policy) OCSPStapling() sni.OCSP { return sni.OCSP(p) }

// TestDeadResponder shows that a responder that does not answer is in nobody's
// way, and is told of once.
func TestDeadResponder(t *testing.T) {
	i, dir := newIssuer(t), t.TempDir()
	release := make(chan struct{})
	responder := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer responder.Close()
	defer close(release)
	i.folder(t, dir, "a.example", responder.URL, mustStapleExtension)
	s, err := sni.Open(dir, sni.Options{Survey: never})
	must(t, err)
	if _, _, err := handshakeState(t, s, &tls.Config{ServerName: "a.example", InsecureSkipVerify: true}); err != nil {
		t.Error(err)
	}
	must(t, s.Close()) // does not wait for it
}

func TestFailingResponder(t *testing.T) {
	i, dir := newIssuer(t), t.TempDir()
	answers := map[string]http.HandlerFunc{
		"HTTP status 503":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"asn1":              func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"larger than 65536": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<17)) },
		"try later":         func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(ocsp.TryLaterErrorResponse) },
	}
	for want, answer := range answers {
		t.Run(want, func(t *testing.T) {
			responder := httptest.NewServer(answer)
			defer responder.Close()
			i.folder(t, dir, "a.example", responder.URL, mustStapleExtension)
			var r record
			open(t, dir, sni.Options{Events: r.events()})
			eventually(t, "a warning", r.has("warning a.example: "+filepath.Join(dir, "a.example")+": OCSP: the certificate demands"))
			if !strings.Contains(strings.Join(r.all(), "\n"), want) {
				t.Errorf("events %q do not say %q", r.all(), want)
			}
		})
	}
}

// responderFunc answers in place of the network.
type responderFunc func() (status int, body []byte)

func (f responderFunc) RoundTrip(*http.Request) (*http.Response, error) {
	status, body := f()
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(body))}, nil
}

// TestStapleRefresh follows a staple through its life: renewed at half its
// time, kept as long as it is good while the responder is down, asked for ever
// less often, taken out when its time is over, and back when the responder is.
func TestStapleRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		i, dir := newIssuer(t), t.TempDir()
		leaf := i.folder(t, dir, "a.example", "http://ocsp.example")
		var asked atomic.Int32
		var down atomic.Bool
		answer := responderFunc(func() (int, []byte) {
			asked.Add(1)
			if down.Load() {
				return 0, nil
			}
			return http.StatusOK, i.respond(t, leaf, ocsp.Response{ThisUpdate: time.Now(), NextUpdate: time.Now().Add(8 * time.Hour)})
		})
		var r record
		s := openHooked(t, dir, sni.Options{Rescan: never, HTTP: &http.Client{Transport: answer}, Events: r.events()}, sni.Hooks{Notifier: deaf})
		expect := func(after time.Duration, wantAsked int32, wantStapled bool) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := stapled(t, s, "a.example")(); asked.Load() != wantAsked || got != wantStapled {
				t.Fatalf("asked %d times, stapled %v; want %d, %v; events %q", asked.Load(), got, wantAsked, wantStapled, r.all())
			}
		}
		expect(time.Second, 1, true)
		first := identity(t, s, "a.example")
		config := first.Config("listener", func() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} })
		expect(3*time.Hour, 1, true)
		expect(time.Hour, 2, true) // half of eight
		second := identity(t, s, "a.example")
		if second == first || second.Config("listener", func() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} }) == config {
			t.Error("the new staple did not make a new identity")
		}
		must(t, s.Reload(t.Context())) // what was fetched stays
		if identity(t, s, "a.example") != second {
			t.Error("reading the folder again lost the staple")
		}
		down.Store(true)
		expect(4*time.Hour, 3, true)
		expect(time.Minute, 4, true)
		expect(2*time.Minute, 5, true)
		expect(4*time.Minute, 6, true)
		expect(4*time.Hour, 12, false) // in 8, 16, 32 and 60 minutes
		if n := r.count("warning a.example: "); n != 1 {
			t.Errorf("warned %d times: %q", n, r.all())
		}
		down.Store(false)
		expect(time.Hour, 13, true)
		must(t, s.Close())
	})
}

// TestStapleOfEvictedFolder shows that nobody is asked for what is not loaded.
func TestStapleOfEvictedFolder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		i, dir := newIssuer(t), tree(t, "default.example", "b.example")
		leaf := i.folder(t, dir, "a.example", "http://ocsp.example")
		asked := 0
		answer := responderFunc(func() (int, []byte) {
			asked++
			return http.StatusOK, i.respond(t, leaf, ocsp.Response{ThisUpdate: time.Now(), NextUpdate: time.Now().Add(8 * time.Hour)})
		})
		s := openHooked(t, dir, sni.Options{Default: "default.example", Cache: 2, Rescan: never, HTTP: &http.Client{Transport: answer}}, sni.Hooks{Notifier: deaf})
		get(t, s, "a.example")
		time.Sleep(time.Minute)
		get(t, s, "b.example")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		must(t, s.Close())
	})
}
