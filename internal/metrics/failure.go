package metrics

import (
	"maps"
	"slices"
)

// words are what people are told of a reason: the log, the status page and
// docs/metrics.md say the same.
type words struct{ meaning, mend string }

// failureWords has every reason of tls_handshake_failures_total.
var failureWords = map[HandshakeFailure]words{
	HandshakeTimeout:   {"the client went silent in the handshake", "nothing: port scanners and TCP health checks do this"},
	HandshakeEOF:       {"the client closed the connection in the handshake", "nothing: port scanners and TCP health checks do this"},
	HandshakeReset:     {"the client reset the connection in the handshake", "nothing: port scanners and TCP health checks do this"},
	HandshakePlaintext: {"the client spoke SMTP, or no TLS at all, where TLS was due", "tell its user: port 465 is implicit TLS, 587 STARTTLS"},
	HandshakeHTTP:      {"an HTTP request came where TLS was due", "nothing: a scanner does this"},
	HandshakeNoSharedVersion: {"an old client: it has no TLS version that is accepted here",
		"set tls.profile: legacy if it must be served"},
	HandshakeNoSharedCipher: {"no cipher suite, group or signature algorithm that both sides have, or none that fits the certificate's key",
		"set tls.profile: legacy, or add a certificate of another key type, if the client must be served; the log at level debug has both lists"},
	HandshakeUnknownSNI: {"no certificate has the client's server name, and tls.unknown_sni is reject",
		"add a folder for the name if it is one of yours"},
	HandshakeNoCertificate: {"there is no certificate that can be served, not even a default", "run smtp-tlsproxy check"},
	HandshakeALPN: {"the client offered only protocols that are not mail",
		"nothing; set tls.alpn: off if a mail client does this"},
	HandshakeClientRejected: {"the client did not accept the certificate; its alert says why",
		"unknown_ca, bad_certificate, certificate_unknown: look for missing intermediate certificates, or for a name that the client wants and the certificate has not; certificate_expired: renew it"},
	HandshakeClientAlert: {"the client ended the handshake with an alert about something else than the certificate",
		"look at the alert, and at the client's own log"},
	HandshakeClientCertRequired: {"tls.client_auth demands a certificate, and the client showed none",
		"give its user one, or relax the mode"},
	HandshakeClientCertBad: {"the client's certificate does not lead up to ca, has none of the pinned keys, or is out of its dates",
		"look at the error in the log"},
	HandshakeOther: {"the handshake broke the protocol, or failed for a reason that has no name", "look at the error in the log"},
}

var handshakeFailures = slices.Sorted(maps.Keys(failureWords))

// Noise reports whether it is mostly scanners and health checks that fail so, as
// every address on the internet sees them.
func (f HandshakeFailure) Noise() bool {
	switch f {
	case HandshakeTimeout, HandshakeEOF, HandshakeReset, HandshakeHTTP:
		return true
	}
	return false
}

// Meaning says in words what happened.
func (f HandshakeFailure) Meaning() string { return failureWords[f].meaning }

// Mend says what the operator can do.
func (f HandshakeFailure) Mend() string { return failureWords[f].mend }
