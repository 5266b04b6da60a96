package tlsopts_test

import (
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

var allSchemes = []tls.SignatureScheme{
	tls.ECDSAWithP256AndSHA256, tls.Ed25519, tls.PSSWithSHA256, tls.PKCS1WithSHA256, tls.ECDSAWithP384AndSHA384, tls.PKCS1WithSHA1,
}

// hello is what a client of TLS 1.2 that can do everything offers, but for what
// change takes from it.
func hello(change func(*tls.ClientHelloInfo)) *tls.ClientHelloInfo {
	h := &tls.ClientHelloInfo{
		CipherSuites: []uint16{
			tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
			0x0A0A, 0x009F, tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
		},
		SupportedCurves:   []tls.CurveID{0x2A2A, tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384},
		SupportedPoints:   []uint8{0},
		SignatureSchemes:  allSchemes,
		SupportedVersions: []uint16{0x3A3A, tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10},
	}
	if change != nil {
		change(h)
	}
	return h
}

func TestServerChoice(t *testing.T) {
	everything := tlsopts.Options{Profile: tlsopts.Legacy, Ciphers: "ECDHE+CHACHA20:ECDHE+AESGCM:ECDHE+AES:RSA+AESGCM:RSA+AES"}
	clients := everything
	clients.HonorCipherOrder = tlsopts.ClientOrder
	both := []*tls.Certificate{p256Cert(), rsaCert()}
	const all = "all" // crypto/tls decides, or refuses
	for _, test := range []struct {
		name         string
		options      tlsopts.Options
		certificates []*tls.Certificate
		change       func(*tls.ClientHelloInfo)
		want         string
		certificate  *tls.Certificate
	}{
		{"server's order", everything, both, nil, "ECDHE-ECDSA-CHACHA20-POLY1305", p256Cert()},
		{"server's order, RSA", everything, []*tls.Certificate{rsaCert()}, nil, "ECDHE-RSA-CHACHA20-POLY1305", rsaCert()},
		{"client's order", clients, both, nil, "AES128-SHA", rsaCert()},
		{"client's order, ECDSA", clients, []*tls.Certificate{p256Cert()}, nil, "ECDHE-ECDSA-AES128-SHA", p256Cert()},
		{"client's order, Ed25519", clients, []*tls.Certificate{ed25519Cert()}, nil, "ECDHE-ECDSA-AES128-SHA", ed25519Cert()},
		{"RSA preferred by the suites", tlsopts.Options{Ciphers: "ECDHE+aRSA+AESGCM:ECDHE+AESGCM"}, both, nil, "ECDHE-RSA-AES128-GCM-SHA256", rsaCert()},
		{"AEAD needs TLS 1.2", everything, both, func(h *tls.ClientHelloInfo) { h.SupportedVersions = []uint16{tls.VersionTLS11} },
			"ECDHE-ECDSA-AES128-SHA", p256Cert()},
		{"Ed25519 needs TLS 1.2", everything, []*tls.Certificate{ed25519Cert(), rsaCert()},
			func(h *tls.ClientHelloInfo) { h.SupportedVersions = []uint16{tls.VersionTLS11} }, "ECDHE-RSA-AES128-SHA", rsaCert()},
		{"no curves", everything, both, func(h *tls.ClientHelloInfo) { h.SupportedCurves = nil }, "AES128-GCM-SHA256", rsaCert()},
		{"hybrid curves alone", everything, both, func(h *tls.ClientHelloInfo) { h.SupportedCurves = h.SupportedCurves[:2] }, "AES128-GCM-SHA256", rsaCert()},
		{"compressed points", everything, both, func(h *tls.ClientHelloInfo) { h.SupportedPoints = []uint8{1, 2} }, "AES128-GCM-SHA256", rsaCert()},
		{"curve of the key", everything, []*tls.Certificate{p384Cert(), rsaCert()},
			func(h *tls.ClientHelloInfo) { h.SupportedCurves = []tls.CurveID{tls.X25519, tls.CurveP256} }, "ECDHE-RSA-CHACHA20-POLY1305", rsaCert()},
		{"RSA signatures alone", everything, both, func(h *tls.ClientHelloInfo) { h.SignatureSchemes = []tls.SignatureScheme{tls.PKCS1WithSHA256} },
			"ECDHE-RSA-CHACHA20-POLY1305", rsaCert()},
		{"SHA-1 signatures alone", everything, both, func(h *tls.ClientHelloInfo) {
			h.SignatureSchemes = []tls.SignatureScheme{tls.PKCS1WithSHA1, tls.ECDSAWithSHA1}
		},
			"AES128-GCM-SHA256", rsaCert()},
		{"no signature schemes", everything, both, func(h *tls.ClientHelloInfo) { h.SignatureSchemes = nil }, "AES128-GCM-SHA256", rsaCert()},
		{"nothing fits", tlsopts.Options{}, both, func(h *tls.ClientHelloInfo) { h.CipherSuites = []uint16{0x009F} }, all, p256Cert()},
		{"no version fits", tlsopts.Options{}, both, func(h *tls.ClientHelloInfo) { h.SupportedVersions = []uint16{tls.VersionTLS10} }, all, p256Cert()},
		{"no certificate", everything, nil, nil, all, nil},
		{"TLS 1.3", everything, both, func(h *tls.ClientHelloInfo) { h.SupportedVersions = []uint16{tls.VersionTLS13} }, all, p256Cert()},
		{"TLS 1.3, RSA signatures alone", everything, both, func(h *tls.ClientHelloInfo) {
			h.SupportedVersions, h.SignatureSchemes = []uint16{tls.VersionTLS13}, []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP384AndSHA384}
		}, all, rsaCert()},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := hello(test.change)
			config, err := serve(t, test.options, test.certificates...).ConfigForClient(h)
			if err != nil {
				t.Fatal(err)
			}
			got := all
			if len(config.CipherSuites) == 1 {
				got = tlsopts.CipherSuiteName(config.CipherSuites[0])
			}
			if got != test.want {
				t.Errorf("got suite %s, want %s", got, test.want)
			}
			if c, err := config.GetCertificate(h); c != test.certificate || err != nil {
				t.Errorf("got another certificate than was wanted, %v", err)
			}
		})
	}
}

// For every order of ours and every offer, the suite is the first that both
// have.
func TestServerOrderExactly(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		names := tlsopts.GoSuites()
		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		names = names[:1+random.IntN(len(names))]
		options := tlsopts.Options{Profile: tlsopts.Legacy, HonorCipherOrder: tlsopts.ServerOrder}
		for _, name := range names {
			options.Ciphers += tlsopts.Ciphers(name + ":")
		}
		list := must(tlsopts.ParseCiphers(string(options.Ciphers)))
		offer := slices.Clone(list.Suites)
		random.Shuffle(len(offer), func(i, j int) { offer[i], offer[j] = offer[j], offer[i] })
		offer = offer[:1+random.IntN(len(offer))]
		h := hello(func(h *tls.ClientHelloInfo) { h.CipherSuites = offer })

		want := list.Suites[slices.IndexFunc(list.Suites, func(id uint16) bool { return slices.Contains(offer, id) })]
		config, _ := serve(t, options, p256Cert(), rsaCert()).ConfigForClient(h)
		if !slices.Equal(config.CipherSuites, []uint16{want}) {
			t.Errorf("%v of %v offered: got %v, want %v", list, offer, config.CipherSuites, want)
		}
		options.HonorCipherOrder = tlsopts.ClientOrder
		config, _ = serve(t, options, p256Cert(), rsaCert()).ConfigForClient(h)
		if !slices.Equal(config.CipherSuites, offer[:1]) {
			t.Errorf("%v of %v offered: got %v, want the client's first", list, offer, config.CipherSuites)
		}
	}
}

func TestServerCurveOrder(t *testing.T) {
	for _, test := range []struct {
		curves  tlsopts.Curves
		version uint16
		want    []tls.CurveID // nil is what crypto/tls makes of all
	}{
		{"", tls.VersionTLS12, nil},
		{"auto", tls.VersionTLS13, nil},
		{"P-384:P-256", tls.VersionTLS12, []tls.CurveID{tls.CurveP384}},
		{"P-521:P-384:P-256", tls.VersionTLS13, []tls.CurveID{tls.CurveP384}},
		{"X25519MLKEM768:P-256:X25519", tls.VersionTLS12, []tls.CurveID{tls.CurveP256}},
		{"X25519MLKEM768:P-256:X25519", tls.VersionTLS13, []tls.CurveID{tls.X25519MLKEM768}},
		{"P-521", tls.VersionTLS13, []tls.CurveID{tls.CurveP521}},
	} {
		h := hello(func(h *tls.ClientHelloInfo) { h.SupportedVersions = []uint16{test.version} })
		config, _ := serve(t, tlsopts.Options{Curves: test.curves}, p256Cert()).ConfigForClient(h)
		if test.want == nil && len(config.CurvePreferences) < 5 || test.want != nil && !slices.Equal(config.CurvePreferences, test.want) {
			t.Errorf("%s in 0x%04x: got %v, want %v", test.curves, test.version, config.CurvePreferences, test.want)
		}
	}
}

func TestServerSourceFails(t *testing.T) {
	failure := errors.New("no such folder")
	server, err := tlsopts.Options{}.Server(tlsopts.ServerConfig{Certificates: func(*tls.ClientHelloInfo) ([]*tls.Certificate, error) { return nil, failure }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.ConfigForClient(hello(nil)); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	if _, err := server.Config().GetCertificate(hello(nil)); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
}

// A Server hands out what it made at first, and allocates nothing.
func TestServerMakesConfigsOnce(t *testing.T) {
	server := serve(t, tlsopts.Options{Curves: "P-256:X25519"}, p256Cert(), rsaCert())
	h := hello(nil)
	first, _ := server.ConfigForClient(h)
	allocations := testing.AllocsPerRun(100, func() {
		if config, _ := server.ConfigForClient(h); config != first {
			t.Error("got another configuration")
		}
	})
	if allocations > 0 {
		t.Errorf("%v allocations", allocations)
	}
}

func TestServerAsksForClientCertificates(t *testing.T) {
	server, err := tlsopts.Options{}.Server(tlsopts.ServerConfig{ClientAuth: tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequireAny}})
	if err != nil {
		t.Fatal(err)
	}
	if got := server.Config().ClientAuth; got != tls.RequireAnyClientCert {
		t.Errorf("got %v", got)
	}
	if _, err := (tlsopts.Options{Ciphers: "X"}).Server(tlsopts.ServerConfig{}); err == nil {
		t.Error("an invalid cipher string was accepted")
	}
}

func BenchmarkServerChoice(b *testing.B) {
	server := serve(b, tlsopts.Options{Profile: tlsopts.Legacy}, p256Cert(), rsaCert())
	h := hello(nil)
	for b.Loop() {
		_, _ = server.ConfigForClient(h)
	}
}
