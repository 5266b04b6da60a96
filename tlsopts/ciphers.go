package tlsopts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Ciphers is a cipher string in the language of openssl-ciphers(1), which
// chooses and orders the suites of TLS 1.2 and below:
//
//	ECDHE+AESGCM:ECDHE+CHACHA20:!SHA1
//
// It is the option "ciphers" of Node.js, ssl_ciphers of nginx and
// tls_high_cipherlist of Postfix. The zero value means "not set": the profile
// decides. See [ParseCiphers] for what is taken.
type Ciphers string

// UnmarshalText takes a string that [ParseCiphers] takes.
func (c *Ciphers) UnmarshalText(text []byte) error {
	if _, err := ParseCiphers(string(text)); err != nil {
		return err
	}
	*c = Ciphers(text)
	return nil
}

// CipherList is what a cipher string comes to.
type CipherList struct {
	// Suites are the suites of TLS 1.2 and below, most preferred first.
	Suites []uint16
	// Notes tell, a sentence each, what of the string has no effect and which
	// of the suites are weak.
	Notes []string
}

// String gives the OpenSSL names in order, with colons between.
func (l CipherList) String() string {
	return strings.Join(suiteNames(l.Suites), ":")
}

func suiteNames(ids []uint16) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = CipherSuiteName(id)
	}
	return names
}

// maxCipherString bounds the work for a string. The longest that is published
// (Mozilla's, of 2016) has 1,400 bytes.
const maxCipherString = 8192

// ParseCiphers reads a cipher string as OpenSSL 3.0 does and gives the suites
// that crypto/tls can serve, in OpenSSL's order.
//
// The string is a list with ":", ",", ";" or white space between its parts. A
// part is the name of a suite, as OpenSSL or IANA spells it, or a keyword, or
// several of them with "+" between, which stands for the suites that fit all.
// It adds these at the end of the list. With "!" before it the suites are taken
// out for good, with "-" until they are added again, and with "+" they go to
// the end. "@STRENGTH" sorts by key length, "@SECLEVEL=n" (0 to 5) leaves out
// the suites that OpenSSL does not allow at that security level. "DEFAULT" and
// the SUITEB words must come first.
//
// Three things differ from OpenSSL. A name that nobody knows is an error, not
// passed over. Suites with 3DES, which no distribution's OpenSSL has, must be
// named by a word that means them ("3DES", "DES-CBC3-SHA"): ALL is not enough.
// RC4 is never chosen (RFC 7465).
//
// Names that Go has no suites for (DHE, CAMELLIA, ...), of old versions
// (EXPORT), and of TLS 1.3, whose suites cannot be chosen in Go, are passed over
// with a note. It is an error if no suite remains.
func ParseCiphers(s string) (CipherList, error) {
	if strings.Trim(s, separators) == "" {
		return CipherList{}, errors.New("the cipher string is empty: leave it out to take the profile's suites")
	}
	if len(s) > maxCipherString {
		return CipherList{}, fmt.Errorf("the cipher string has %d bytes: want at most %d", len(s), maxCipherString)
	}
	program, err := parseRules(s)
	if err != nil {
		return CipherList{}, err
	}
	var t tally
	order := program.run(&t)
	order = slices.DeleteFunc(order, func(s *suite) bool { return !goSuites[s.id] })
	if len(order) == 0 {
		return CipherList{}, t.nothingLeft(program.level)
	}
	list := CipherList{Notes: append(t.notes(program.level), weaknesses(order)...)}
	if program.suiteB != "" {
		list.Notes = append(list.Notes, program.suiteB+": what follows it has no effect, and curves must be set besides (P-256 and P-384)")
	}
	for _, s := range order {
		list.Suites = append(list.Suites, s.id)
	}
	return list, nil
}
