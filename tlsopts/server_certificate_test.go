package tlsopts_test

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"slices"
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

func TestServerCertificateInHandshakes(t *testing.T) {
	p256, p384, ed, rsa := pairOf(t, "P-256"), pairOf(t, "P-384"), pairOf(t, "Ed25519"), pairOf(t, "RSA 2048")
	all := []*tls.Certificate{rsa, ed, p256, p384}
	const rsaSuite, staticSuite = "ECDHE-RSA-AES128-GCM-SHA256", "AES128-GCM-SHA256"
	rsaSuites := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	tests := map[string]struct {
		server tlsopts.Options
		client *tls.Config // nil is the default
		pairs  []*tls.Certificate
		want   *tls.Certificate
	}{
		"TLS 1.3":                    {pairs: all, want: p256},
		"order of ECDSA":             {pairs: []*tls.Certificate{rsa, p384, p256}, want: p384},
		"no ECDSA there":             {pairs: []*tls.Certificate{rsa, ed}, want: ed},
		"TLS 1.2":                    {client: &tls.Config{MaxVersion: tls.VersionTLS12}, pairs: all, want: p256},
		"server of TLS 1.2":          {server: tlsopts.Options{MaxVersion: tlsopts.TLS12}, pairs: all, want: p256},
		"client for RSA":             {client: &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: rsaSuites}, pairs: all, want: rsa},
		"server for RSA":             {server: tlsopts.Options{MaxVersion: tlsopts.TLS12, Ciphers: rsaSuite}, pairs: all, want: rsa},
		"server for RSA in 1.3":      {server: tlsopts.Options{Ciphers: rsaSuite}, pairs: all, want: p256},
		"no P-256":                   {client: &tls.Config{MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.CurveP384}}, pairs: all, want: p384},
		"P-256 not for key exchange": {server: tlsopts.Options{MaxVersion: tlsopts.TLS12, Curves: "X25519:P-384"}, pairs: all, want: p256},
		"static RSA": {
			server: tlsopts.Options{MaxVersion: tlsopts.TLS12, Ciphers: staticSuite},
			client: &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, pairs: all, want: rsa,
		},
		"TLS 1.0": {
			server: tlsopts.Options{Profile: tlsopts.Legacy, MinVersion: tlsopts.TLS10},
			client: &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, pairs: all, want: p256,
		},
		"TLS 1.0, RSA suites": {
			server: tlsopts.Options{Profile: tlsopts.Legacy, MinVersion: tlsopts.TLS10},
			client: &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}, pairs: all, want: rsa,
		},
		"one": {client: &tls.Config{MinVersion: tls.VersionTLS13}, pairs: []*tls.Certificate{rsa}, want: rsa},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pairs := slices.Clone(tt.pairs)
			tlsopts.SortPairs(pairs)
			client := cmp.Or(tt.client, &tls.Config{})
			client.InsecureSkipVerify = true
			client.ServerName = "unknown.example" // no certificate is for it
			_, got, serverErr, err := converse(t, serve(t, tt.server, pairs...).Config(), client)
			if err != nil || serverErr != nil {
				t.Fatalf("client: %v, server: %v", err, serverErr)
			}
			if !got.PeerCertificates[0].Equal(tt.want.Leaf) {
				t.Errorf("served %s", got.PeerCertificates[0].PublicKeyAlgorithm)
			}
		})
	}
}

// TestServerCertificateFallsBack shows that a client that supports none gets
// an alert of the handshake, not internal_error or unrecognized_name.
func TestServerCertificateFallsBack(t *testing.T) {
	server := serve(t, tlsopts.Options{}, pairOf(t, "P-384"), pairOf(t, "Ed25519"))
	client := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	if _, _, _, err := converse(t, server.Config(), client); err == nil || !strings.Contains(err.Error(), "handshake failure") {
		t.Errorf("error %v, want the alert handshake_failure", err)
	}
}

// TestServerCertificateAgrees compares with SupportsCertificate of crypto/tls
// on random ClientHellos without a server name. That does not fit a Server: it
// refuses a certificate that is not for the name asked for, which the default
// certificate seldom is, and allocates for each pair.
func TestServerCertificateAgrees(t *testing.T) {
	var pairs []*tls.Certificate
	for _, kind := range servedKinds {
		pairs = append(pairs, pairOf(t, kind))
	}
	nothing := &tls.Certificate{Leaf: &x509.Certificate{}}
	random := rand.New(rand.NewPCG(1, 2))
	for i, options := range []tlsopts.Options{
		{},
		{MaxVersion: tlsopts.TLS12},
		{Profile: tlsopts.Legacy, MinVersion: tlsopts.TLS10, Ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-SHA"},
		{MaxVersion: tlsopts.TLS12, Ciphers: "AES128-SHA:ECDHE-ECDSA-AES256-SHA"},
		// The curve of a key need not be among ours, as with OpenSSL; for
		// SupportsCertificate it must.
		{Curves: "P-521:P-256:P-384:X25519MLKEM768"},
		{MinVersion: tlsopts.TLS13},
	} {
		template := helloUnder(t, serve(t, options, nothing).Config())
		var servers []*tlsopts.Server
		for _, pair := range pairs {
			// The first has no key: the second is chosen if, and only if, the
			// client supports it.
			servers = append(servers, serve(t, options, nothing, pair))
		}
		outcomes := map[bool]int{}
		for range 3000 {
			hello := *template
			randomHello(random, &hello)
			for n, pair := range pairs {
				want := hello.SupportsCertificate(pair) == nil
				outcomes[want]++
				got, err := servers[n].Config().GetCertificate(&hello)
				noErr(t, err)
				if without := tlsopts.ChooseCertificate(servers[n].Config(), &hello, []*tls.Certificate{nothing, pair}); without != got {
					t.Fatalf("options %d, %s: ChooseCertificate and the Server differ on %+v", i, pair.Leaf.PublicKeyAlgorithm, hello)
				}
				if (got == pair) != want {
					t.Fatalf("options %d, %s: %v, crypto/tls says %v of %+v", i, pair.Leaf.PublicKeyAlgorithm, got == pair, hello.SupportsCertificate(pair), hello)
				}
			}
		}
		if outcomes[true] < 500 || outcomes[false] < 500 {
			t.Errorf("options %d: outcomes %v are too one-sided", i, outcomes)
		}
	}
}

// helloUnder returns a ClientHelloInfo that knows the server's configuration.
func helloUnder(t *testing.T, config *tls.Config) *tls.ClientHelloInfo {
	t.Helper()
	var captured *tls.ClientHelloInfo
	server := config.Clone()
	server.GetConfigForClient = nil
	server.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		captured = hello
		return nil, nil
	}
	_, _, _, _ = converse(t, server, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, CipherSuites: []uint16{
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	}})
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
	} else if len(hello.SignatureSchemes) == 0 {
		// It takes none for all, and a handshake takes none for SHA-1, which is
		// gone.
		hello.SignatureSchemes = []tls.SignatureScheme{tls.ECDSAWithSHA1}
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

func TestServerCertificateDoesNotAllocate(t *testing.T) {
	server := serve(t, tlsopts.Options{}, pairOf(t, "P-384"), pairOf(t, "Ed25519"), pairOf(t, "RSA 2048"))
	for _, highest := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := server.Config().Clone()
		config.MaxVersion = highest
		hello := helloUnder(t, config)
		if n := testing.AllocsPerRun(100, func() { _, _ = server.Config().GetCertificate(hello) }); n != 0 {
			t.Errorf("%g allocations", n)
		}
	}
}
