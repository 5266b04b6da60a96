package tlsopts

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"slices"
	"strings"
)

// ChooseCertificate returns the pair that a client is served of those for one
// name: the first ECDSA one that it supports, else Ed25519, else RSA. If it
// supports none it gets the first, so that the handshake fails with the alert
// that crypto/tls has for it; without pairs the result is nil. Leaf must be
// set in each pair, as ParsePairs does.
//
// Config is the one that the handshake is under, of which versions, cipher
// suites and curves matter. ClientHelloInfo.SupportsCertificate does not fit:
// it refuses a certificate that is not for the name asked for, which the
// default certificate seldom is, and allocates for each pair.
func ChooseCertificate(config *tls.Config, hello *tls.ClientHelloInfo, pairs []*tls.Certificate) *tls.Certificate {
	if len(pairs) < 2 {
		if len(pairs) == 0 {
			return nil
		}
		return pairs[0]
	}
	chosen, best := pairs[0], kinds
	version := mutualVersion(config, hello)
	for _, pair := range pairs {
		if kind := kindOf(pair); kind < best && supports(config, hello, version, pair) {
			chosen, best = pair, kind
		}
	}
	return chosen
}

// SortPairs puts the pairs of one name into our order of preference: ECDSA,
// Ed25519, RSA; those of one type stay in their order.
func SortPairs(pairs []*tls.Certificate) {
	slices.SortStableFunc(pairs, func(a, b *tls.Certificate) int { return int(kindOf(a)) - int(kindOf(b)) })
}

// keyKind is a type of key, in our order of preference: ECDSA signs fastest
// and is known to every client that knows TLS 1.2 but the oldest, few know
// Ed25519, and RSA costs twenty times as much.
type keyKind int

const (
	kindECDSA keyKind = iota
	kindEd25519
	kindRSA
	kinds // how many there are
)

func kindOf(pair *tls.Certificate) keyKind {
	switch pair.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return kindECDSA
	case ed25519.PublicKey:
		return kindEd25519
	case *rsa.PublicKey:
		return kindRSA
	}
	return kinds
}

// mutualVersion is the version that crypto/tls will negotiate, or 0.
func mutualVersion(config *tls.Config, hello *tls.ClientHelloInfo) uint16 {
	lowest, highest := uint16(tls.VersionTLS12), uint16(tls.VersionTLS13)
	if config.MinVersion != 0 {
		lowest = config.MinVersion
	}
	if config.MaxVersion != 0 {
		highest = min(config.MaxVersion, highest)
	}
	var version uint16
	for _, offered := range hello.SupportedVersions {
		if offered >= lowest && offered <= highest {
			version = max(version, offered)
		}
	}
	return version
}

func supports(config *tls.Config, hello *tls.ClientHelloInfo, version uint16, pair *tls.Certificate) bool {
	switch {
	case version == 0:
		return false
	case version == tls.VersionTLS13:
		return signs(hello, version, pair)
	case kindOf(pair) == kindRSA && commonSuite(config, hello, version, suiteStaticRSA):
		return true
	}
	// Before TLS 1.2 the signature is always of MD5 and SHA-1 or SHA-1 alone.
	if version == tls.VersionTLS12 && !signs(hello, version, pair) {
		return false
	}
	if !commonCurve(config, hello) {
		return false
	}
	switch key := pair.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		// RFC 8422 section 5.1.1: the curves offered are those for keys, too.
		curve, known := curveID(key.Curve)
		return known && slices.Contains(hello.SupportedCurves, curve) && allowsCurve(config, curve) &&
			commonSuite(config, hello, version, suiteECDSA)
	case ed25519.PublicKey:
		return version == tls.VersionTLS12 && len(hello.SignatureSchemes) > 0 &&
			commonSuite(config, hello, version, suiteECDSA)
	}
	return commonSuite(config, hello, version, suiteRSA)
}

// signs reports whether the client takes a signature that the key can make.
func signs(hello *tls.ClientHelloInfo, version uint16, pair *tls.Certificate) bool {
	if len(hello.SignatureSchemes) == 0 {
		// crypto/tls ends this handshake whatever the certificate.
		return true
	}
	for _, scheme := range hello.SignatureSchemes {
		if makes(version, pair, scheme) {
			return true
		}
	}
	return false
}

// makes reports whether crypto/tls signs so with the key. SHA-1 is gone since
// Go 1.25.
func makes(version uint16, pair *tls.Certificate, scheme tls.SignatureScheme) bool {
	switch key := pair.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		switch scheme {
		case tls.ECDSAWithP256AndSHA256:
			return version < tls.VersionTLS13 || key.Curve == elliptic.P256()
		case tls.ECDSAWithP384AndSHA384:
			return version < tls.VersionTLS13 || key.Curve == elliptic.P384()
		case tls.ECDSAWithP521AndSHA512:
			return version < tls.VersionTLS13 || key.Curve == elliptic.P521()
		}
	case ed25519.PublicKey:
		return scheme == tls.Ed25519
	case *rsa.PublicKey:
		switch scheme {
		case tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512:
			return true
		case tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512:
			return version < tls.VersionTLS13
		}
	}
	return false
}

func curveID(curve elliptic.Curve) (id tls.CurveID, known bool) {
	switch curve {
	case elliptic.P256():
		return tls.CurveP256, true
	case elliptic.P384():
		return tls.CurveP384, true
	case elliptic.P521():
		return tls.CurveP521, true
	}
	return 0, false
}

// allowsCurve is for TLS 1.2 and below, which knows no hybrid key exchange.
func allowsCurve(config *tls.Config, curve tls.CurveID) bool {
	switch curve {
	case tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521:
		return len(config.CurvePreferences) == 0 || slices.Contains(config.CurvePreferences, curve)
	}
	return false
}

// commonCurve reports whether there can be an ECDHE key exchange.
func commonCurve(config *tls.Config, hello *tls.ClientHelloInfo) bool {
	if len(hello.SupportedPoints) > 0 && !slices.Contains(hello.SupportedPoints, 0) { // uncompressed
		return false
	}
	for _, curve := range hello.SupportedCurves {
		if allowsCurve(config, curve) {
			return true
		}
	}
	return false
}

// suiteKind is what a suite of TLS 1.2 or below asks of the certificate.
type suiteKind int

const (
	suiteStaticRSA suiteKind = iota
	suiteRSA
	suiteECDSA
)

type suiteFacts struct {
	kind   suiteKind
	before bool // usable before TLS 1.2
}

// suitesByID has all suites that crypto/tls implements.
var suitesByID, defaultSuites = func() (map[uint16]suiteFacts, []uint16) {
	byID := make(map[uint16]suiteFacts)
	var defaults []uint16
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		facts := suiteFacts{before: slices.Contains(suite.SupportedVersions, tls.VersionTLS10)}
		switch {
		case !slices.Contains(suite.SupportedVersions, tls.VersionTLS12):
			continue
		case strings.HasPrefix(suite.Name, "TLS_ECDHE_ECDSA_"):
			facts.kind = suiteECDSA
		case strings.HasPrefix(suite.Name, "TLS_ECDHE_RSA_"):
			facts.kind = suiteRSA
		}
		byID[suite.ID] = facts
		if !suite.Insecure {
			defaults = append(defaults, suite.ID)
		}
	}
	return byID, defaults
}()

func commonSuite(config *tls.Config, hello *tls.ClientHelloInfo, version uint16, kind suiteKind) bool {
	suites := config.CipherSuites
	if suites == nil {
		suites = defaultSuites
	}
	for _, id := range suites {
		facts, known := suitesByID[id]
		if known && facts.kind == kind && (facts.before || version >= tls.VersionTLS12) &&
			slices.Contains(hello.CipherSuites, id) {
			return true
		}
	}
	return false
}
