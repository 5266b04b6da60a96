package tlsopts

import (
	"errors"
	"fmt"
	"strings"
)

// ALPN is what a listener makes of the protocol names that a client offers
// (RFC 7301): ALPNStrict, ALPNOff, or a list of names with commas between them,
// as ALPNOf makes it. The zero value means "not set": ALPNStrict. The list is
// the option ALPNProtocols of Node.js.
//
// With ALPNStrict and with a list, a client that offers only other names is
// refused with the alert no_application_protocol (120), and one that offers none
// is accepted.
type ALPN string

const (
	// ALPNStrict selects "smtp", "esmtp" or "submission". It keeps a browser
	// that was lured to this port from talking HTTP to it (the ALPACA attack;
	// RFC 9325 section 3.8).
	ALPNStrict ALPN = "strict"
	// ALPNOff negotiates no protocol and accepts every client, for clients
	// that offer odd names.
	ALPNOff ALPN = "off"
)

// smtpProtocols are the names that mail clients offer, in our order of
// preference. None is registered with IANA; Exim and Postfix use the first
// two, Dovecot the third.
var smtpProtocols = []string{"smtp", "esmtp", "submission"}

// ALPNOf makes a policy of a list of protocol names, most preferred first.
func ALPNOf(names ...string) (ALPN, error) {
	if len(names) == 0 {
		return "", errors.New("the list of ALPN names is empty: write off to accept every client")
	}
	for i, name := range names {
		if err := checkProtocol(name); err != nil {
			return "", err
		}
		for _, before := range names[:i] {
			if name == before {
				return "", fmt.Errorf("the ALPN name %q is in the list twice", name)
			}
		}
	}
	return ALPN(strings.Join(names, ",")), nil
}

// maxProtocol is the longest name that fits (RFC 7301 section 3.1).
const maxProtocol = 255

func checkProtocol(name string) error {
	switch ALPN(name) {
	case ALPNStrict, ALPNOff:
		return fmt.Errorf("%q is an ALPN policy, not a name: it must stand alone, not in a list", name)
	case "h2", "h3":
		// crypto/tls moreover lets clients pass that offer only "http/1.1" if
		// "h2" is listed.
		return fmt.Errorf("the ALPN name %q would let a browser in (RFC 9325 section 3.8): want names of mail protocols, such as smtp", name)
	}
	if strings.HasPrefix(name, "http/") {
		return fmt.Errorf("the ALPN name %q would let a browser in (RFC 9325 section 3.8): want names of mail protocols, such as smtp", name)
	}
	if len(name) < 1 || len(name) > maxProtocol {
		return fmt.Errorf("an ALPN name has 1 to %d bytes, this one has %d", maxProtocol, len(name))
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == ',' {
			return fmt.Errorf("%q is not an ALPN name: want printable ASCII without spaces and commas", name)
		}
	}
	return nil
}

// UnmarshalList reads names, as [ALPNOf] does.
func (a *ALPN) UnmarshalList(names []string) error {
	list, err := ALPNOf(names...)
	if err == nil {
		*a = list
	}
	return err
}

// UnmarshalText reads strict or off. A list of names is for UnmarshalList.
func (a *ALPN) UnmarshalText(text []byte) error {
	switch v := ALPN(text); v {
	case ALPNStrict, ALPNOff:
		*a = v
		return nil
	}
	return fmt.Errorf("%q is not an ALPN policy: want strict, off or a list of names", text)
}

// protocols is the value of tls.Config.NextProtos for the policy.
func (a ALPN) protocols() ([]string, error) {
	switch a {
	case "", ALPNStrict:
		return append([]string(nil), smtpProtocols...), nil
	case ALPNOff:
		return nil, nil
	}
	names := strings.Split(string(a), ",")
	if _, err := ALPNOf(names...); err != nil {
		return nil, err
	}
	return names, nil
}
