package tlsopts_test

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// pairOf is the pair for a leaf of a kind.
func pairOf(t testing.TB, kind string) *tls.Certificate {
	t.Helper()
	leaf := signLeaf(t, nil, kind, "a.example")
	pair, err := tlsopts.ParsePair(leaf.pem(), leaf.keyPEM(t))
	noErr(t, err)
	return pair
}

func TestChooseCertificateInHandshakes(t *testing.T) {
	p256, p384, ed, rsa := pairOf(t, "P-256"), pairOf(t, "P-384"), pairOf(t, "Ed25519"), pairOf(t, "RSA 2048")
	all := []*tls.Certificate{rsa, ed, p256, p384}
	const v12, v13 = tls.VersionTLS12, tls.VersionTLS13
	tests := map[string]struct {
		server, client *tls.Config // nil is the default
		pairs          []*tls.Certificate
		want           *tls.Certificate
	}{
		"TLS 1.3":               {pairs: all, want: p256},
		"order of ECDSA":        {pairs: []*tls.Certificate{rsa, p384, p256}, want: p384},
		"no ECDSA there":        {pairs: []*tls.Certificate{rsa, ed}, want: ed},
		"TLS 1.2":               {client: &tls.Config{MaxVersion: v12}, pairs: all, want: p256},
		"server of TLS 1.2":     {server: &tls.Config{MaxVersion: v12}, pairs: all, want: p256},
		"client for RSA":        {client: &tls.Config{MaxVersion: v12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, pairs: all, want: rsa},
		"server for RSA":        {server: &tls.Config{MaxVersion: v12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, pairs: all, want: rsa},
		"server for RSA in 1.3": {server: &tls.Config{CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}, pairs: all, want: p256},
		"no P-256":              {client: &tls.Config{MaxVersion: v12, CurvePreferences: []tls.CurveID{tls.CurveP384}}, pairs: all, want: p384},
		"no P-256 at server":    {server: &tls.Config{MaxVersion: v12, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}}, pairs: all, want: p384},
		"static RSA": {
			server: &tls.Config{MaxVersion: v12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}},
			client: &tls.Config{MaxVersion: v12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, pairs: all, want: rsa,
		},
		"TLS 1.0": {server: &tls.Config{MinVersion: tls.VersionTLS10}, client: &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, pairs: all, want: p256},
		"TLS 1.0, RSA suites": {
			server: &tls.Config{MinVersion: tls.VersionTLS10},
			client: &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}, pairs: all, want: rsa,
		},
		"one": {client: &tls.Config{MinVersion: v13}, pairs: []*tls.Certificate{rsa}, want: rsa},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			server, client := cmp.Or(tt.server, &tls.Config{}), cmp.Or(tt.client, &tls.Config{})
			server.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				return tlsopts.ChooseCertificate(server, hello, tt.pairs), nil
			}
			client.InsecureSkipVerify = true
			client.ServerName = "unknown.example" // no certificate is for it
			_, got, serverErr, err := converse(t, server, client)
			if err != nil || serverErr != nil {
				t.Fatalf("client: %v, server: %v", err, serverErr)
			}
			if !got.PeerCertificates[0].Equal(tt.want.Leaf) {
				t.Errorf("served %s", got.PeerCertificates[0].PublicKeyAlgorithm)
			}
		})
	}
}

// TestChooseCertificateFallsBack shows that a client that supports none gets
// an alert of the handshake, not internal_error or unrecognized_name.
func TestChooseCertificateFallsBack(t *testing.T) {
	pairs := []*tls.Certificate{pairOf(t, "P-384"), pairOf(t, "Ed25519")}
	server := &tls.Config{}
	server.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		return tlsopts.ChooseCertificate(server, hello, pairs), nil
	}
	client := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	if _, _, _, err := converse(t, server, client); err == nil || !strings.Contains(err.Error(), "handshake failure") {
		t.Errorf("error %v, want the alert handshake_failure", err)
	}
	if tlsopts.ChooseCertificate(server, &tls.ClientHelloInfo{}, pairs) != pairs[0] {
		t.Error("a client without a common version does not get the first pair")
	}
	if tlsopts.ChooseCertificate(server, &tls.ClientHelloInfo{}, nil) != nil {
		t.Error("a pair out of nothing")
	}
}

// TestChooseCertificateAgrees compares with SupportsCertificate of crypto/tls
// on random ClientHellos without a server name.
func TestChooseCertificateAgrees(t *testing.T) {
	var pairs []*tls.Certificate
	for _, kind := range servedKinds {
		pairs = append(pairs, pairOf(t, kind))
	}
	nothing := &tls.Certificate{Leaf: &x509.Certificate{}}
	random := rand.New(rand.NewPCG(1, 2))
	configs := []*tls.Config{
		{},
		{MaxVersion: tls.VersionTLS12},
		{MinVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}},
		{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}},
		{CurvePreferences: []tls.CurveID{tls.CurveP384, tls.X25519MLKEM768}},
		{MinVersion: tls.VersionTLS13},
	}
	for i, config := range configs {
		template := helloUnder(t, config)
		outcomes := map[bool]int{}
		for range 3000 {
			hello := *template
			randomHello(random, &hello)
			for _, pair := range pairs {
				want := hello.SupportsCertificate(pair) == nil
				outcomes[want]++
				// The first pair has a key of no kind: the second is chosen
				// if, and only if, the client supports it.
				got := tlsopts.ChooseCertificate(config, &hello, []*tls.Certificate{nothing, pair}) == pair
				if got != want {
					t.Fatalf("config %d, %s: %v, crypto/tls says %v of %+v", i, pair.Leaf.PublicKeyAlgorithm, got, hello.SupportsCertificate(pair), hello)
				}
			}
		}
		if outcomes[true] < 500 || outcomes[false] < 500 {
			t.Errorf("config %d: outcomes %v are too one-sided", i, outcomes)
		}
	}
}

// helloUnder returns a ClientHelloInfo that knows the server's configuration.
func helloUnder(t *testing.T, config *tls.Config) *tls.ClientHelloInfo {
	t.Helper()
	var captured *tls.ClientHelloInfo
	server := config.Clone()
	server.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		captured = hello
		return nil, nil
	}
	_, _, _, _ = converse(t, server, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10,
		CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}})
	if captured == nil {
		t.Fatal("no ClientHello came through")
	}
	return captured
}

func randomHello(random *rand.Rand, hello *tls.ClientHelloInfo) {
	hello.SupportedVersions = some(random, []uint16{tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS11, 0x7a7a})
	hello.CipherSuites = some(random, []uint16{
		tls.TLS_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, 0x00ff,
	})
	hello.SupportedCurves = some(random, []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521, 0x7a7a})
	hello.SignatureSchemes = some(random, []tls.SignatureScheme{
		tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512, tls.ECDSAWithSHA1,
		tls.Ed25519, tls.PSSWithSHA256, tls.PSSWithSHA512, tls.PKCS1WithSHA384, tls.PKCS1WithSHA1, 0x0708,
	})
	hello.SupportedPoints = [][]uint8{nil, {0}, {1, 0}}[random.IntN(3)]
	version := uint16(0)
	for _, v := range hello.SupportedVersions {
		if v <= tls.VersionTLS13 {
			version = max(version, v)
		}
	}
	if version < tls.VersionTLS12 {
		// SupportsCertificate heeds the schemes before TLS 1.2 also, where a
		// handshake does not.
		hello.SignatureSchemes = nil
	}
}

// some returns each of all with a chance of a half.
func some[E any](random *rand.Rand, all []E) []E {
	var chosen []E
	for _, e := range all {
		if random.IntN(2) == 0 {
			chosen = append(chosen, e)
		}
	}
	return chosen
}

func TestChooseCertificateDoesNotAllocate(t *testing.T) {
	pairs := []*tls.Certificate{pairOf(t, "RSA 2048"), pairOf(t, "Ed25519"), pairOf(t, "P-384")}
	for _, config := range []*tls.Config{{}, {MaxVersion: tls.VersionTLS12}} {
		hello := helloUnder(t, config)
		if n := testing.AllocsPerRun(100, func() { tlsopts.ChooseCertificate(config, hello, pairs) }); n != 0 {
			t.Errorf("%g allocations", n)
		}
	}
}
