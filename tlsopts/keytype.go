package tlsopts

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"slices"
)

// The signature schemes that a key can make with crypto/tls, without SHA-1.
var (
	schemesPSS    = []tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512}
	schemesPKCS1  = []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512}
	schemesRSA    = slices.Concat(schemesPSS, schemesPKCS1)
	schemesECDSA  = []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512}
	schemeEd25519 = []tls.SignatureScheme{tls.Ed25519}
)

// SortPairs puts the pairs of one name into our order of preference: ECDSA, which
// signs fastest and which all clients know but the oldest of TLS 1.2; Ed25519,
// which few know; RSA, which costs twenty times as much. Those of one type stay in
// their order. Leaf must be set in each, as ParsePairs does.
func SortPairs(pairs []*tls.Certificate) {
	slices.SortStableFunc(pairs, func(a, b *tls.Certificate) int { return preference(a) - preference(b) })
}

func preference(pair *tls.Certificate) int {
	switch pair.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return 0
	case ed25519.PublicKey:
		return 1
	}
	return 2
}

// fits tells whether a certificate can be used with s, which is of TLS 1.2 or
// below.
func fits(s *suite, c *tls.Certificate, version Version, hello *tls.ClientHelloInfo) bool {
	if s.has(kxRSA) {
		key, ok := c.PrivateKey.(crypto.Decrypter)
		if !ok {
			return false
		}
		_, ok = key.Public().(*rsa.PublicKey)
		return ok
	}
	switch key := publicKey(c).(type) {
	case *rsa.PublicKey:
		return s.has(authRSA) && canSign(c, version, hello)
	case *ecdsa.PublicKey:
		// The curve of the key must be among the client's, too (RFC 8422
		// section 5.3).
		return s.has(authECDSA) && slices.Contains(hello.SupportedCurves, curveOf(key)) && canSign(c, version, hello)
	case ed25519.PublicKey:
		return s.has(authECDSA) && canSign(c, version, hello)
	}
	return false
}

// canSign tells whether the key can sign in a way that the client takes.
func canSign(c *tls.Certificate, version Version, hello *tls.ClientHelloInfo) bool {
	schemes := schemesOf(publicKey(c), version)
	if version < TLS12 { // the way is fixed there, and Ed25519 has none
		return len(schemes) > 0
	}
	for _, scheme := range schemes {
		if slices.Contains(hello.SignatureSchemes, scheme) &&
			(c.SupportedSignatureAlgorithms == nil || slices.Contains(c.SupportedSignatureAlgorithms, scheme)) {
			return true
		}
	}
	return false
}

// schemesOf gives how a key can sign in version.
func schemesOf(key crypto.PublicKey, version Version) []tls.SignatureScheme {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if version == TLS13 {
			return schemesPSS
		}
		return schemesRSA
	case *ecdsa.PublicKey:
		if version < TLS13 {
			return schemesECDSA // TLS 1.2 does not tie the hash to the curve
		}
		switch curveOf(key) {
		case tls.CurveP256:
			return schemesECDSA[:1]
		case tls.CurveP384:
			return schemesECDSA[1:2]
		case tls.CurveP521:
			return schemesECDSA[2:]
		}
	case ed25519.PublicKey:
		if version >= TLS12 {
			return schemeEd25519
		}
	}
	return nil
}

func publicKey(c *tls.Certificate) crypto.PublicKey {
	if key, ok := c.PrivateKey.(crypto.Signer); ok {
		return key.Public()
	}
	return nil
}

// curveOf is 0 for a curve that crypto/tls has not.
func curveOf(key *ecdsa.PublicKey) tls.CurveID {
	switch key.Curve {
	case elliptic.P256():
		return tls.CurveP256
	case elliptic.P384():
		return tls.CurveP384
	case elliptic.P521():
		return tls.CurveP521
	}
	return 0
}
