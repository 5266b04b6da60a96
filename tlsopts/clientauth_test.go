package tlsopts_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// clientFixture has clients of every sort and what a server may know of them.
type clientFixture struct {
	server          *tls.Certificate
	ca              *tlsopts.Authorities
	pinKnown        tlsopts.Pin
	pinSelf         tlsopts.Pin
	pinIntermediate tlsopts.Pin
	clients         map[string]*tls.Certificate
}

func newClientFixture(t *testing.T) clientFixture {
	t.Helper()
	root, foreign := signCA(t, "clients", nil), signCA(t, "foreign", nil)
	middle := signCA(t, "middle", &root)
	expired := sign(t, &root, newKey(t, "P-256"), func(c *x509.Certificate) {
		c.Subject.CommonName, c.NotAfter = "expired", time.Now().Add(-time.Minute)
	})
	noUsage := sign(t, &root, newKey(t, "P-256"), func(c *x509.Certificate) {
		c.Subject.CommonName, c.ExtKeyUsage = "server", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	odd := signLeaf(t, &root, "P-256", "odd\nname")
	known, self := signLeaf(t, &root, "P-256", "known"), signLeaf(t, nil, "Ed25519", "self")
	ca, err := tlsopts.ParseAuthorities(root.pem())
	noErr(t, err)
	pair := func(leaf signed, chain ...signed) *tls.Certificate {
		pair := &tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key, Leaf: leaf.cert}
		for _, cert := range chain {
			pair.Certificate = append(pair.Certificate, cert.cert.Raw)
		}
		return pair
	}
	return clientFixture{
		server: pairOf(t, "P-256"), ca: ca,
		pinKnown: tlsopts.PinOf(known.cert), pinSelf: tlsopts.PinOf(self.cert), pinIntermediate: tlsopts.PinOf(middle.cert),
		clients: map[string]*tls.Certificate{
			"none": {}, "known": pair(known), "other": pair(signLeaf(t, &middle, "P-256", "other"), middle),
			"foreign": pair(signLeaf(t, &foreign, "P-256", "foreign")), "self": pair(self),
			"expired": pair(expired), "server": pair(noUsage), "odd": pair(odd),
		},
	}
}

func TestClientAuth(t *testing.T) {
	f := newClientFixture(t)
	all := []string{"none", "known", "other", "foreign", "self", "expired", "server", "odd"}
	given := all[1:]
	byCA := []string{"known", "other", "odd"}
	tests := map[string]struct {
		auth               tlsopts.ClientAuth
		accepted, verified []string
	}{
		"not set":                       {tlsopts.ClientAuth{CA: f.ca}, all, nil},
		"none":                          {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthNone, CA: f.ca, Pins: []tlsopts.Pin{f.pinSelf}}, all, nil},
		"request":                       {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest}, all, nil},
		"request, CA":                   {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest, CA: f.ca}, all, byCA},
		"request, pins":                 {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest, Pins: []tlsopts.Pin{f.pinSelf, f.pinKnown}}, all, []string{"known", "self"}},
		"request, both":                 {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest, CA: f.ca, Pins: []tlsopts.Pin{f.pinSelf, f.pinKnown}}, all, []string{"known"}},
		"require_any":                   {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequireAny}, given, nil},
		"require_any, CA":               {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequireAny, CA: f.ca}, given, byCA},
		"verify_if_given, CA":           {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthVerifyIfGiven, CA: f.ca}, append(byCA, "none"), byCA},
		"verify_if_given, pins":         {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthVerifyIfGiven, Pins: []tlsopts.Pin{f.pinSelf}}, []string{"none", "self"}, []string{"self"}},
		"verify_if_given, both":         {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthVerifyIfGiven, CA: f.ca, Pins: []tlsopts.Pin{f.pinSelf, f.pinKnown}}, []string{"none", "known"}, []string{"known"}},
		"require, CA":                   {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, CA: f.ca}, byCA, byCA},
		"require, pins":                 {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, Pins: []tlsopts.Pin{f.pinSelf}}, []string{"self"}, []string{"self"}},
		"require, both":                 {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, CA: f.ca, Pins: []tlsopts.Pin{f.pinKnown, f.pinSelf}}, []string{"known"}, []string{"known"}},
		"require, both, an authority's": {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, CA: f.ca, Pins: []tlsopts.Pin{f.pinIntermediate}}, []string{"other"}, []string{"other"}},
		"require, an authority's alone": {tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, Pins: []tlsopts.Pin{f.pinIntermediate}}, nil, nil},
	}
	for name, tt := range tests {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, client := range all {
				server := &tls.Config{Certificates: []tls.Certificate{*f.server}, SessionTicketsDisabled: true}
				noErr(t, tt.auth.Apply(server))
				state, _, _, err := converse(t, server, clientWith(f.clients[client], version))
				if want := slices.Contains(tt.accepted, client); (err == nil) != want {
					t.Errorf("%s, %s, %s: error %v", name, client, tls.VersionName(version), err)
				}
				if err != nil {
					continue
				}
				id := tt.auth.Identify(state)
				want := tlsopts.ClientIdentity{Presented: server.ClientAuth != tls.NoClientCert && client != "none", Verified: slices.Contains(tt.verified, client)}
				if want.Verified && client != "odd" {
					want.CommonName = client
				}
				if id != want {
					t.Errorf("%s, %s, %s: %+v, want %+v", name, client, tls.VersionName(version), id, want)
				}
			}
		}
	}
}

// clientWith sends its certificate whatever the server asks for.
func clientWith(pair *tls.Certificate, version uint16) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MaxVersion: version,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }}
}

func TestClientAuthSettings(t *testing.T) {
	for _, name := range []string{"none", "request", "require_any", "verify_if_given", "require"} {
		var mode tlsopts.ClientAuthMode
		if err := mode.UnmarshalText([]byte(name)); err != nil || string(mode) != name {
			t.Errorf("%s: %q, %v", name, mode, err)
		}
	}
	var mode tlsopts.ClientAuthMode
	if err := mode.UnmarshalText([]byte("required")); err == nil || mode != "" || !strings.Contains(err.Error(), "want none, request") {
		t.Errorf("error %v", err)
	}
	for _, mode := range []tlsopts.ClientAuthMode{tlsopts.ClientAuthVerifyIfGiven, tlsopts.ClientAuthRequire} {
		if err := (tlsopts.ClientAuth{Mode: mode}).Apply(&tls.Config{}); err == nil || !strings.Contains(err.Error(), "give ca, pins or both") {
			t.Errorf("%s by nothing: error %v", mode, err)
		}
	}
	if err := (tlsopts.ClientAuth{Mode: "x"}).Apply(&tls.Config{}); err == nil {
		t.Error("no error for a mode that is none")
	}
}

// TestVerifyConnectionStays shows that pins come on top of a check of the
// caller's.
func TestVerifyConnectionStays(t *testing.T) {
	f := newClientFixture(t)
	auth := tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequire, Pins: []tlsopts.Pin{f.pinSelf}}
	errOurs := errors.New("ours")
	server := &tls.Config{Certificates: []tls.Certificate{*f.server}, VerifyConnection: func(tls.ConnectionState) error { return errOurs }}
	noErr(t, auth.Apply(server))
	if _, _, err, _ := converse(t, server, clientWith(f.clients["self"], tls.VersionTLS13)); !errors.Is(err, errOurs) {
		t.Errorf("error %v, want the caller's", err)
	}
	server.VerifyConnection = nil
	noErr(t, auth.Apply(server))
	if _, _, err, _ := converse(t, server, clientWith(f.clients["known"], tls.VersionTLS13)); !errors.Is(err, tlsopts.ErrPinMismatch) || !strings.Contains(err.Error(), "\"known\"") {
		t.Errorf("error %v, want ErrPinMismatch with the client's name", err)
	}
}

func TestServerAuth(t *testing.T) {
	root, foreign := signCA(t, "servers", nil), signCA(t, "foreign", nil)
	leaf, self := signLeaf(t, &root, "P-256", "backend.example"), signLeaf(t, nil, "P-256", "self.example")
	expired := sign(t, nil, newKey(t, "P-256"), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	ca, err := tlsopts.ParseAuthorities(root.pem())
	noErr(t, err)
	other, err := tlsopts.ParseAuthorities(foreign.pem())
	noErr(t, err)
	pins := func(all ...signed) (pins []tlsopts.Pin) {
		for _, s := range all {
			pins = append(pins, tlsopts.PinOf(s.cert))
		}
		return pins
	}
	const name = "backend.example"
	tests := map[string]struct {
		auth   tlsopts.ServerAuth
		server signed
		ok     bool
		is     error
	}{
		"CA":                        {tlsopts.ServerAuth{ServerName: name, CA: ca}, leaf, true, nil},
		"other CA":                  {tlsopts.ServerAuth{ServerName: name, CA: other}, leaf, false, nil},
		"other name":                {tlsopts.ServerAuth{ServerName: "other.example", CA: ca}, leaf, false, nil},
		"system's roots":            {tlsopts.ServerAuth{ServerName: name}, leaf, false, nil},
		"CA and pin":                {tlsopts.ServerAuth{ServerName: name, CA: ca, Pins: pins(self, leaf)}, leaf, true, nil},
		"CA and its pin":            {tlsopts.ServerAuth{ServerName: name, CA: ca, Pins: pins(root)}, leaf, true, nil},
		"CA and another pin":        {tlsopts.ServerAuth{ServerName: name, CA: ca, Pins: pins(self)}, leaf, false, tlsopts.ErrPinMismatch},
		"pin, but other CA":         {tlsopts.ServerAuth{ServerName: name, CA: other, Pins: pins(leaf)}, leaf, false, nil},
		"pin, but other name":       {tlsopts.ServerAuth{ServerName: "other.example", CA: ca, Pins: pins(leaf)}, leaf, false, nil},
		"pin alone":                 {tlsopts.ServerAuth{Pins: pins(self)}, self, true, nil},
		"pin alone, name":           {tlsopts.ServerAuth{ServerName: name, Pins: pins(self)}, self, true, nil},
		"pin alone, expired":        {tlsopts.ServerAuth{Pins: pins(expired)}, expired, true, nil},
		"another pin alone":         {tlsopts.ServerAuth{Pins: pins(leaf)}, self, false, tlsopts.ErrPinMismatch},
		"pin of the issuer's alone": {tlsopts.ServerAuth{Pins: pins(root)}, leaf, false, tlsopts.ErrPinMismatch},
	}
	for what, tt := range tests {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			server := &tls.Config{MaxVersion: version, Certificates: []tls.Certificate{{
				Certificate: [][]byte{tt.server.cert.Raw, root.cert.Raw}, PrivateKey: tt.server.key}}}
			client := &tls.Config{}
			noErr(t, tt.auth.Apply(client))
			_, _, _, err := converse(t, server, client)
			if (err == nil) != tt.ok || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%s, %s: error %v", what, tls.VersionName(version), err)
			}
		}
	}
	if err := (tlsopts.ServerAuth{CA: ca}).Apply(&tls.Config{}); err == nil || !strings.Contains(err.Error(), "server_name is missing") {
		t.Errorf("without a name: error %v", err)
	}
}
