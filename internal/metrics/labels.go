package metrics

// HandshakeFailure is why a TLS handshake with a client failed.
type HandshakeFailure string

// The reasons of tls_handshake_failures_total. Scanners and health checks make
// most of the timeouts, ends of file and plain text; the other reasons name a
// client, or a configuration, that wants a look.
const (
	HandshakeTimeout         HandshakeFailure = "timeout"               // not done by its deadline
	HandshakeEOF             HandshakeFailure = "eof"                   // the client closed the connection
	HandshakeReset           HandshakeFailure = "reset"                 // the client reset the connection
	HandshakePlaintext       HandshakeFailure = "plaintext_on_tls_port" // SMTP, or no TLS record at all
	HandshakeHTTP            HandshakeFailure = "http_on_tls_port"      // an HTTP request
	HandshakeNoSharedVersion HandshakeFailure = "no_shared_version"
	HandshakeNoSharedCipher  HandshakeFailure = "no_shared_cipher" // no cipher suite, group or signature algorithm
	HandshakeUnknownSNI      HandshakeFailure = "unknown_sni"      // refused by tls.unknown_sni: reject
	HandshakeNoCertificate   HandshakeFailure = "no_certificate"   // none that can be served
	HandshakeALPN            HandshakeFailure = "alpn"             // only foreign protocol names
	HandshakeClientAlert     HandshakeFailure = "client_alert"     // of any other kind than those about our certificate
	HandshakeClientRejected  HandshakeFailure = "client_rejected_certificate"
	// The client showed no certificate where one is required, or one that is not acceptable.
	HandshakeClientCertRequired HandshakeFailure = "client_cert_required"
	HandshakeClientCertBad      HandshakeFailure = "client_cert_bad"
	HandshakeOther              HandshakeFailure = "other"
)

// Rejection is why a connection was closed as soon as it was accepted, or as
// its PROXY header was due.
type Rejection string

// The reasons of connections_rejected_total.
const (
	RejectedMaxConnections Rejection = "max_connections" // limits.connections
	RejectedPerClient      Rejection = "per_client"      // limits.connections_per_client
	RejectedHandshakeRate  Rejection = "handshake_rate"  // limits.handshakes_per_second_per_client
	RejectedDraining       Rejection = "draining"        // it came while we shut down
	// Those of listeners with proxy_protocol.
	RejectedUntrusted       Rejection = "proxy_untrusted" // the peer is not in proxy_protocol.trusted
	RejectedHeaderMissing   Rejection = "proxy_missing"   // something else came than a PROXY header
	RejectedHeaderTimeout   Rejection = "proxy_timeout"   // it did not come in time
	RejectedHeaderMalformed Rejection = "proxy_malformed"
	RejectedNoClient        Rejection = "proxy_no_client" // one of the load balancer's own wanted a backend
)

var rejections = []Rejection{
	RejectedMaxConnections, RejectedPerClient, RejectedHandshakeRate, RejectedDraining,
	RejectedUntrusted, RejectedHeaderMissing, RejectedHeaderTimeout, RejectedHeaderMalformed, RejectedNoClient,
}

// STARTTLSOutcome is how the plain phase of a STARTTLS listener ended.
type STARTTLSOutcome string

// The outcomes of starttls_total.
const (
	STARTTLSUpgraded        STARTTLSOutcome = "upgraded"
	STARTTLSPlaintext       STARTTLSOutcome = "plaintext" // mail without TLS, where it is optional
	STARTTLSHandshakeFailed STARTTLSOutcome = "handshake_failed"
	STARTTLSInjection       STARTTLSOutcome = "injection"            // bytes behind the STARTTLS command (CVE-2011-0411)
	STARTTLSDirectTLS       STARTTLSOutcome = "tls_without_starttls" // a ClientHello where a command was due
	STARTTLSEarlyTalker     STARTTLSOutcome = "early_talker"         // it did not wait for the greeting
	STARTTLSHTTP            STARTTLSOutcome = "http"
	STARTTLSTooManyErrors   STARTTLSOutcome = "too_many_errors"
	STARTTLSTooManyCommands STARTTLSOutcome = "too_many_commands"
	STARTTLSTimeout         STARTTLSOutcome = "timeout"
	STARTTLSQuit            STARTTLSOutcome = "quit"
	STARTTLSDisconnected    STARTTLSOutcome = "disconnected"
	STARTTLSUnavailable     STARTTLSOutcome = "unavailable" // we replied 454
	STARTTLSDrained         STARTTLSOutcome = "drained"     // ended by our own shutdown
)

var starttlsOutcomes = []STARTTLSOutcome{
	STARTTLSUpgraded, STARTTLSPlaintext, STARTTLSHandshakeFailed, STARTTLSInjection, STARTTLSDirectTLS, STARTTLSEarlyTalker, STARTTLSHTTP,
	STARTTLSTooManyErrors, STARTTLSTooManyCommands, STARTTLSTimeout, STARTTLSQuit, STARTTLSDisconnected,
	STARTTLSUnavailable, STARTTLSDrained,
}

// SessionOutcome is how a session ended.
type SessionOutcome string

// The outcomes of sessions_total.
const (
	SessionOK                 SessionOutcome = "ok"
	SessionPreTLS             SessionOutcome = "pretls" // ended before the client asked for TLS
	SessionHandshakeFailed    SessionOutcome = "handshake_failed"
	SessionBackendUnavailable SessionOutcome = "backend_unavailable" // no connection to it
	SessionBackendRefused     SessionOutcome = "backend_refused"     // its greeting was 4xx or 5xx
	SessionIdleTimeout        SessionOutcome = "idle_timeout"
	SessionClientError        SessionOutcome = "client_error"
	SessionBackendError       SessionOutcome = "backend_error"
	SessionDrained            SessionOutcome = "drained" // ended by our own shutdown
	SessionRefused            SessionOutcome = "refused" // by us, with 554 or the like
	SessionPanic              SessionOutcome = "panic"
)

var sessionOutcomes = []SessionOutcome{
	SessionOK, SessionPreTLS, SessionHandshakeFailed, SessionBackendUnavailable, SessionBackendRefused,
	SessionIdleTimeout, SessionClientError, SessionBackendError, SessionDrained, SessionRefused, SessionPanic,
}

// BackendError is what went wrong between us and a backend, up to the end of
// its greeting and, for a client in plain text, of its reply to EHLO.
type BackendError string

// The reasons of backend_errors_total.
const (
	BackendRefused          BackendError = "refused" // the connection
	BackendTimeout          BackendError = "timeout" // of the connection
	BackendDNS              BackendError = "dns"
	BackendUnreachable      BackendError = "unreachable"
	BackendHeader           BackendError = "header" // the PROXY header was not made or not written
	BackendGreetingRejected BackendError = "greeting_rejected"
	BackendGreetingTimeout  BackendError = "greeting_timeout"
	BackendGreetingEOF      BackendError = "greeting_eof"     // it hung up instead
	BackendGreetingInvalid  BackendError = "greeting_invalid" // not SMTP
	BackendTLS              BackendError = "tls"              // to the backend
	BackendXCLIENT          BackendError = "xclient"          // not offered, or refused to us
	BackendOther            BackendError = "other"
)

var backendErrors = []BackendError{
	BackendRefused, BackendTimeout, BackendDNS, BackendUnreachable, BackendHeader,
	BackendGreetingRejected, BackendGreetingTimeout, BackendGreetingEOF, BackendGreetingInvalid, BackendTLS, BackendXCLIENT, BackendOther,
}

// result is whether something was done.
type result string

const (
	resultSuccess result = "success"
	resultError   result = "error"
)

var results = []result{resultSuccess, resultError}
