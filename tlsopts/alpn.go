package tlsopts

import "fmt"

// ALPN is what a listener makes of the protocol names that a client offers
// (RFC 7301). The zero value means "not set": [Options.Config] then takes
// ALPNStrict.
type ALPN string

const (
	// ALPNStrict selects "smtp", "esmtp" or "submission", accepts a client
	// that offers no name, and refuses one that offers only other names with
	// the alert no_application_protocol. It keeps a browser that was lured to
	// this port from talking HTTP to it (the ALPACA attack; RFC 9325 section
	// 3.8).
	ALPNStrict ALPN = "strict"
	// ALPNOff negotiates no protocol and accepts every client, for clients
	// that offer odd names.
	ALPNOff ALPN = "off"
)

// smtpProtocols are the names that mail clients offer, in our order of
// preference. None is registered with IANA; Exim and Postfix use the first
// two, Dovecot the third. Never list "h2": crypto/tls treats it specially.
var smtpProtocols = []string{"smtp", "esmtp", "submission"}

// UnmarshalText reads strict or off.
func (a *ALPN) UnmarshalText(text []byte) error {
	switch v := ALPN(text); v {
	case ALPNStrict, ALPNOff:
		*a = v
		return nil
	}
	return fmt.Errorf("%q is not an ALPN policy: want strict or off", text)
}

// protocols is the value of tls.Config.NextProtos for the policy.
func (a ALPN) protocols() []string {
	if a == ALPNOff {
		return nil
	}
	return smtpProtocols
}
