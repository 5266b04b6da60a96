package tlsopts

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// ClientAuthMode is what a server makes of client certificates. The zero value
// means "not set" and is taken as ClientAuthNone.
type ClientAuthMode string

const (
	// ClientAuthNone asks for no certificate.
	ClientAuthNone ClientAuthMode = "none"
	// ClientAuthRequest asks, and accepts clients without a certificate and
	// with any. One that is not acceptable is as good as none: it is never
	// reported as verified.
	ClientAuthRequest ClientAuthMode = "request"
	// ClientAuthRequireAny refuses clients without a certificate and accepts
	// any; it is reported as verified only if it is acceptable.
	ClientAuthRequireAny ClientAuthMode = "require_any"
	// ClientAuthVerifyIfGiven accepts clients without a certificate, and
	// refuses those with one that is not acceptable.
	ClientAuthVerifyIfGiven ClientAuthMode = "verify_if_given"
	// ClientAuthRequire accepts only clients with an acceptable certificate.
	ClientAuthRequire ClientAuthMode = "require"
)

var clientAuthModes = []ClientAuthMode{ClientAuthNone, ClientAuthRequest, ClientAuthRequireAny, ClientAuthVerifyIfGiven, ClientAuthRequire}

// UnmarshalText reads one of none, request, require_any, verify_if_given and
// require.
func (m *ClientAuthMode) UnmarshalText(text []byte) error {
	if mode := ClientAuthMode(text); slices.Contains(clientAuthModes, mode) {
		*m = mode
		return nil
	}
	return fmt.Errorf("%q is not a client_auth mode: want none, request, require_any, verify_if_given or require", text)
}

// ClientAuth says which client certificates a server asks for and accepts. The
// zero value asks for none. It must not be changed once it is in use.
//
// With authorities and pins both have to hold: a verified chain, and a pinned
// key somewhere in it. With pins alone the client's own key has to be pinned,
// and that is enough: neither names, dates nor usages count, as with DANE-EE
// (RFC 7671 section 5.1). With authorities alone the chain has to be verified
// for client authentication; public authorities do not issue for that any more.
type ClientAuth struct {
	Mode ClientAuthMode // default ClientAuthNone, under which the rest means nothing
	CA   *Authorities   // nil is none; the system's roots are never used
	Pins []Pin
}

// Apply sets ClientAuth, ClientCAs and, for pins, VerifyConnection, which runs
// after one that is set already. It is an error to verify by nothing.
//
// A certificate that crypto/tls cannot parse, or whose key is of a type that it
// does not know, ends the handshake in every mode but ClientAuthNone.
func (a ClientAuth) Apply(config *tls.Config) error {
	config.ClientAuth, config.ClientCAs = tls.NoClientCert, nil
	if a.Mode == ClientAuthNone || a.Mode == "" {
		return nil
	}
	if a.verifies() && a.CA == nil && len(a.Pins) == 0 {
		return fmt.Errorf("client_auth: the mode %s has nothing to verify by: give ca, pins or both", a.Mode)
	}
	if a.CA != nil {
		config.ClientCAs = a.CA.pool // in the modes that do not verify it tells clients what to choose by
	}
	switch a.Mode {
	case ClientAuthRequest:
		config.ClientAuth = tls.RequestClientCert
	case ClientAuthRequireAny:
		config.ClientAuth = tls.RequireAnyClientCert
	case ClientAuthVerifyIfGiven:
		config.ClientAuth = tls.VerifyClientCertIfGiven
		if a.CA == nil { // crypto/tls would verify by the system's roots
			config.ClientAuth = tls.RequestClientCert
		}
	case ClientAuthRequire:
		config.ClientAuth = tls.RequireAndVerifyClientCert
		if a.CA == nil {
			config.ClientAuth = tls.RequireAnyClientCert
		}
	default:
		return fmt.Errorf("client_auth: %q is not a mode", a.Mode)
	}
	if a.verifies() && len(a.Pins) > 0 {
		config.VerifyConnection = both(config.VerifyConnection, a.verifyPins)
	}
	return nil
}

func (a ClientAuth) verifies() bool {
	return a.Mode == ClientAuthVerifyIfGiven || a.Mode == ClientAuthRequire
}

// verifyPins runs in resumed sessions, too, so that a key that is pinned no
// longer does not come in by a ticket.
func (a ClientAuth) verifyPins(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 || a.pinsHold(state.PeerCertificates[0], state.VerifiedChains) {
		return nil // crypto/tls has refused a client without one where it has to
	}
	return fmt.Errorf("client certificate %s: %w", nameOf(state.PeerCertificates[0]), ErrPinMismatch)
}

func (a ClientAuth) pinsHold(leaf *x509.Certificate, chains [][]*x509.Certificate) bool {
	if a.CA == nil {
		return pinned(a.Pins, []*x509.Certificate{leaf})
	}
	return pinnedChain(a.Pins, chains)
}

// ClientIdentity is what a server knows of a client by its certificate.
type ClientIdentity struct {
	Presented  bool   // the client sent a certificate and has its key
	Verified   bool   // and the certificate is acceptable
	CommonName string // of a verified certificate; "" if it has none or one with control characters
}

// Identify tells who the client of a connection is whose configuration Apply
// has set. In the modes that do not verify in the handshake it verifies now,
// which costs as much as there: call it once for a connection.
func (a ClientAuth) Identify(state tls.ConnectionState) ClientIdentity {
	if len(state.PeerCertificates) == 0 {
		return ClientIdentity{}
	}
	leaf := state.PeerCertificates[0]
	id := ClientIdentity{Presented: true, Verified: a.acceptable(leaf, state)}
	if id.Verified && !strings.ContainsFunc(leaf.Subject.CommonName, unicode.IsControl) {
		id.CommonName = leaf.Subject.CommonName
	}
	return id
}

func (a ClientAuth) acceptable(leaf *x509.Certificate, state tls.ConnectionState) bool {
	if a.CA == nil {
		return len(a.Pins) > 0 && a.pinsHold(leaf, nil)
	}
	chains := state.VerifiedChains
	if !a.verifies() {
		chains = a.verify(leaf, state.PeerCertificates[1:])
	}
	return len(chains) > 0 && (len(a.Pins) == 0 || a.pinsHold(leaf, chains))
}

// verify does as crypto/tls does in the modes that verify.
func (a ClientAuth) verify(leaf *x509.Certificate, others []*x509.Certificate) [][]*x509.Certificate {
	options := x509.VerifyOptions{
		Roots:         a.CA.pool,
		Intermediates: x509.NewCertPool(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, cert := range others {
		options.Intermediates.AddCert(cert)
	}
	chains, err := leaf.Verify(options)
	if err != nil {
		return nil
	}
	return chains
}

// both runs first, which may be nil, and then second.
func both(first, second func(tls.ConnectionState) error) func(tls.ConnectionState) error {
	if first == nil {
		return second
	}
	return func(state tls.ConnectionState) error {
		if err := first(state); err != nil {
			return err
		}
		return second(state)
	}
}
