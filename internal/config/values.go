package config

import (
	"fmt"
	"strings"
)

// Mode is how a listener begins TLS.
type Mode string

const (
	// ModeImplicitTLS begins TLS with the first byte (RFC 8314 section 3).
	ModeImplicitTLS Mode = "implicit"
	// ModeSTARTTLS begins in plaintext and upgrades (RFC 3207).
	ModeSTARTTLS Mode = "starttls"
)

// UnmarshalText reads implicit or starttls.
func (m *Mode) UnmarshalText(text []byte) error {
	return oneOf(m, text, "a mode", ModeImplicitTLS, ModeSTARTTLS)
}

// STARTTLS is what a ModeSTARTTLS listener asks of its clients.
type STARTTLS string

const (
	// STARTTLSRequired lets no mail through before TLS.
	STARTTLSRequired STARTTLS = "required"
	// STARTTLSOptional lets clients send mail without TLS, as port 25 has to
	// (RFC 3207 section 4).
	STARTTLSOptional STARTTLS = "optional"
)

// UnmarshalText reads required or optional.
func (s *STARTTLS) UnmarshalText(text []byte) error {
	return oneOf(s, text, "a STARTTLS policy", STARTTLSRequired, STARTTLSOptional)
}

// UnknownSNI is what becomes of a client that asks for a server name without
// a certificate.
type UnknownSNI string

const (
	// UnknownSNIFallback serves it the default certificate.
	UnknownSNIFallback UnknownSNI = "fallback"
	// UnknownSNIReject ends the handshake with the alert unrecognized_name.
	UnknownSNIReject UnknownSNI = "reject"
)

// UnmarshalText reads fallback or reject.
func (u *UnknownSNI) UnmarshalText(text []byte) error {
	return oneOf(u, text, "a policy for unknown server names", UnknownSNIFallback, UnknownSNIReject)
}

// Stapling is whether OCSP responses are stapled.
type Stapling string

const (
	// StaplingAuto staples where the certificate names a responder, or where
	// ocsp.der lies beside it.
	StaplingAuto Stapling = "auto"
	// StaplingOff staples nothing.
	StaplingOff Stapling = "off"
)

// UnmarshalText reads auto or off.
func (s *Stapling) UnmarshalText(text []byte) error {
	return oneOf(s, text, "a way to staple", StaplingAuto, StaplingOff)
}

// ClientInfo is how the backend learns who the client is.
type ClientInfo string

const (
	// ClientInfoProxyV2 is the binary PROXY header, with TLVs.
	ClientInfoProxyV2 ClientInfo = "proxy-v2"
	// ClientInfoProxyV1 is the PROXY header in one line of text.
	ClientInfoProxyV1 ClientInfo = "proxy-v1"
	// ClientInfoXCLIENT is the command of that name.
	ClientInfoXCLIENT ClientInfo = "xclient"
	// ClientInfoNone tells nothing: the backend takes every client for the
	// proxy itself.
	ClientInfoNone ClientInfo = "none"
)

// UnmarshalText reads proxy-v2, proxy-v1, xclient or none.
func (c *ClientInfo) UnmarshalText(text []byte) error {
	return oneOf(c, text, "a way to pass on the client's address", ClientInfoProxyV2, ClientInfoProxyV1, ClientInfoXCLIENT, ClientInfoNone)
}

// BackendTLSMode is how TLS to a backend begins.
type BackendTLSMode string

const (
	// BackendTLSNone is plain text.
	BackendTLSNone BackendTLSMode = "none"
	// BackendTLSSTARTTLS is by STARTTLS, behind the backend's greeting.
	BackendTLSSTARTTLS BackendTLSMode = "starttls"
	// BackendTLSImplicit is with the first byte behind the PROXY header.
	BackendTLSImplicit BackendTLSMode = "implicit"
)

// UnmarshalText reads none, starttls or implicit.
func (m *BackendTLSMode) UnmarshalText(text []byte) error {
	return oneOf(m, text, "a mode of TLS to a backend", BackendTLSNone, BackendTLSSTARTTLS, BackendTLSImplicit)
}

// Balance is how clients are shared out among the addresses of a backend.
type Balance string

const (
	// LeastConnections prefers the address with the fewest connections.
	LeastConnections Balance = "least_connections"
	// RoundRobin takes one address after the other.
	RoundRobin Balance = "round_robin"
	// ClientHash gives a client the same address each time.
	ClientHash Balance = "client_hash"
)

// UnmarshalText reads least_connections, round_robin or client_hash.
func (b *Balance) UnmarshalText(text []byte) error {
	return oneOf(b, text, "a way to share clients out", LeastConnections, RoundRobin, ClientHash)
}

// oneOf sets v to text if that is a known value; what names the kind of value.
func oneOf[T ~string](v *T, text []byte, what string, known ...T) error {
	names := make([]string, len(known))
	for i, k := range known {
		if string(k) == string(text) {
			*v = k
			return nil
		}
		names[i] = string(k)
	}
	return fmt.Errorf("%q is not %s: want %s", text, what, orList(names))
}

// orList writes names as "a, b or c".
func orList(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}
