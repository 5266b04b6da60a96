package tlsopts

import (
	"cmp"
	"crypto/tls"
)

// ChooseCertificate returns the pair that a client is served of those for one
// name, most preferred first (see SortPairs), where no Server decides. Config is
// the one that the handshake is under, of which versions, cipher suites and
// curves matter; Leaf must be set in each pair, as ParsePairs does. If the client
// supports no pair it gets the first, so that the handshake fails with the alert
// that crypto/tls has for it; without pairs the result is nil.
//
// ClientHelloInfo.SupportsCertificate does not fit: it refuses a certificate that
// is not for the name asked for, which the default certificate seldom is, and
// allocates for each pair.
func ChooseCertificate(config *tls.Config, hello *tls.ClientHelloInfo, pairs []*tls.Certificate) *tls.Certificate {
	p := policy{suites: config.CipherSuites, groups: config.CurvePreferences}
	p.min, p.max = versionsOf(config)
	if p.suites == nil {
		p.suites = defaultSuites
	}
	if p.groups == nil {
		p.groups = allCurves
	}
	_, chosen := p.decide(hello, pairs)
	return chosen
}

// versionsOf are the versions that a configuration allows.
func versionsOf(config *tls.Config) (lowest, highest Version) {
	return cmp.Or(Version(config.MinVersion), TLS12), cmp.Or(Version(config.MaxVersion), TLS13)
}
