package tlsopts

import (
	"crypto/tls"
	"fmt"
	"slices"
)

// Profile is a set of versions and cipher suites under one name, after the
// recommendations of Mozilla's Server Side TLS. The zero value means "not set":
// Intermediate.
//
// MinVersion, MaxVersion and Ciphers that are named beside it win over it.
type Profile string

const (
	// Modern is TLS 1.3 alone, as between servers and clients of one operator.
	Modern Profile = "modern"
	// Intermediate is TLS 1.2 and 1.3 with forward secrecy and authenticated
	// encryption only (RFC 9325 sections 3.1.1 and 4.2), which every mail
	// client and server that is still maintained can do.
	Intermediate Profile = "intermediate"
	// Legacy is TLS 1.0 to 1.3, and besides the suites of Intermediate those
	// with CBC, and with RSA key exchange, of AES and SHA-1 or GCM, for
	// printers, scanners and clients that were last updated around 2010. Many
	// of these name no curves or sign with SHA-1 only and so can do no
	// ECDHE with Go. They get no forward secrecy, and SHA-1 and TLS 1.0 are
	// deprecated (RFC 8996): give them a listener of their own.
	//
	// It has no 3DES: TLS stacks have had AES since 2008. A device that is
	// older (Windows XP) needs DES-CBC3-SHA at the end of Ciphers.
	Legacy Profile = "legacy"
)

// aeadSuites are the suites for TLS 1.2: forward secrecy and authenticated
// encryption only (RFC 9325 section 4.2), AES first, since nearly all hardware
// computes it fastest.
var aeadSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// cbcSuites are added when TLS 1.0 or 1.1 was named, which know no AEAD.
var cbcSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
}

// rsaSuites are those without forward secrecy that Legacy has. The ones with
// CBC and SHA-256 are left out: Go has no countermeasure against Lucky Thirteen
// for them, and who can do them can do these.
var rsaSuites = []uint16{
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_RSA_WITH_AES_256_CBC_SHA,
}

// profileMin are the profiles and their lowest versions.
var profileMin = map[Profile]Version{Modern: TLS13, Intermediate: TLS12, Legacy: TLS10}

// check tells whether p is a profile.
func (p Profile) check() error {
	if profileMin[p] != 0 {
		return nil
	}
	near := didYouMean(string(p), []string{"modern", "intermediate", "legacy"}, "want modern, intermediate or legacy")
	if p == "old" { // Mozilla's name
		near = `did you mean "legacy"?`
	}
	return fmt.Errorf("%q is not a profile: %s", string(p), near)
}

// UnmarshalText reads modern, intermediate or legacy.
func (p *Profile) UnmarshalText(text []byte) error {
	if err := Profile(text).check(); err != nil {
		return err
	}
	*p = Profile(text)
	return nil
}

// suites are those of the profile for TLS 1.2 and below, when lowest is the
// lowest version.
func (p Profile) suites(lowest Version) []uint16 {
	switch {
	case p == Legacy:
		return slices.Concat(aeadSuites, cbcSuites, rsaSuites)
	case lowest < TLS12:
		return slices.Concat(aeadSuites, cbcSuites)
	}
	return slices.Clone(aeadSuites)
}
