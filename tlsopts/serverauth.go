package tlsopts

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// ServerAuth says which certificate a client accepts of a TLS server, such as
// a backend.
//
// With authorities, or with neither those nor pins, the chain and the server's
// name are verified; pins besides have to be in the verified chain. With pins
// alone the server's own key has to be pinned, and that is enough: neither its
// name nor dates count, so that a self-signed certificate does.
type ServerAuth struct {
	ServerName string       // sent as SNI, and verified; an IP address is verified only
	CA         *Authorities // nil is none if there are pins, else the system's roots
	Pins       []Pin
}

// Apply sets ServerName, RootCAs, InsecureSkipVerify and, for pins,
// VerifyConnection, which runs after one that is set already.
func (a ServerAuth) Apply(config *tls.Config) error {
	config.ServerName, config.RootCAs, config.InsecureSkipVerify = a.ServerName, nil, false
	if a.CA != nil {
		config.RootCAs = a.CA.pool
	} else if len(a.Pins) > 0 {
		config.InsecureSkipVerify = true // in favour of verifyPins
	}
	if a.ServerName == "" && !config.InsecureSkipVerify {
		return errors.New("server_name is missing: give the name that stands in the server's certificate, or pins in place of ca")
	}
	if len(a.Pins) > 0 {
		config.VerifyConnection = both(config.VerifyConnection, a.verifyPins)
	}
	return nil
}

func (a ServerAuth) verifyPins(state tls.ConnectionState) error {
	leaf := state.PeerCertificates[0] // crypto/tls accepts no server without
	if a.CA != nil && pinnedChain(a.Pins, state.VerifiedChains) ||
		a.CA == nil && pinned(a.Pins, []*x509.Certificate{leaf}) {
		return nil
	}
	return fmt.Errorf("server certificate %s, whose pin is %s: %w", nameOf(leaf), PinOf(leaf), ErrPinMismatch)
}
