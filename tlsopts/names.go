package tlsopts

import "crypto/tls"

// Indexes of the table of suites.
var (
	suiteByID   = make(map[uint16]*suite, len(suites))
	suiteByName = make(map[string]*suite, 2*len(suites)) // by OpenSSL's name and by IANA's
)

// goSuites are the suites of TLS 1.2 and below that crypto/tls can serve, less
// those with RC4, which RFC 7465 prohibits. What crypto/tls calls insecure is
// among them: it is served when a user names it.
var goSuites = make(map[uint16]bool)

// defaultSuites are those of a *tls.Config that names none. ECDSA comes first, so
// that the order of pairs holds in ChooseCertificate.
var defaultSuites []uint16

func init() {
	for i := range suites {
		s := &suites[i]
		suiteByID[s.id], suiteByName[s.name], suiteByName[s.standard] = s, s, s
	}
	for _, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, c := range list {
			if s := suiteByID[c.ID]; s != nil && !s.has(rc4) {
				goSuites[c.ID] = true
			}
		}
	}
	for _, auth := range []traits{authECDSA, authRSA} {
		for _, c := range tls.CipherSuites() {
			if s := suiteByID[c.ID]; s != nil && s.has(auth) {
				defaultSuites = append(defaultSuites, c.ID)
			}
		}
	}
}

// CipherSuiteName gives the name of a suite in OpenSSL, mail logs and the PROXY
// protocol: "ECDHE-RSA-AES128-GCM-SHA256" or "TLS_AES_128_GCM_SHA256". An
// unknown id gives its number in hex.
func CipherSuiteName(id uint16) string {
	if s := suiteByID[id]; s != nil {
		return s.name
	}
	return tls.CipherSuiteName(id) // TLS 1.3 names are the same in both worlds
}
