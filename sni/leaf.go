package sni

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"slices"
)

// lean leaves a pair's parsed leaf only what serving asks of it, in few objects
// of memory. A thousand domains are as many leaves, of two dozen objects each,
// that the garbage collector would visit over and over.
func lean(pair *tls.Certificate) {
	parsed := pair.Leaf
	pair.Leaf = &x509.Certificate{
		Raw:                parsed.Raw,
		RawIssuer:          parsed.RawIssuer,
		RawSubject:         parsed.RawSubject,
		SerialNumber:       new(big.Int).Set(parsed.SerialNumber),
		NotBefore:          parsed.NotBefore,
		NotAfter:           parsed.NotAfter,
		PublicKeyAlgorithm: parsed.PublicKeyAlgorithm,
		PublicKey:          parsed.PublicKey,
		DNSNames:           parsed.DNSNames,
		IPAddresses:        parsed.IPAddresses,
		OCSPServer:         parsed.OCSPServer,
	}
	if i := slices.IndexFunc(parsed.Extensions, isTLSFeature); i >= 0 {
		pair.Leaf.Extensions = slices.Clone(parsed.Extensions[i : i+1])
	}
}

// full parses the leaves again, for those who look at more than is served.
func full(pairs []*tls.Certificate) []*tls.Certificate {
	all := make([]*tls.Certificate, len(pairs))
	for i, pair := range pairs {
		parsed := *pair
		if leaf, err := x509.ParseCertificate(pair.Certificate[0]); err == nil { // it was parsed before
			parsed.Leaf = leaf
		}
		all[i] = &parsed
	}
	return all
}
