package probe

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// tickets notes that the server sent a session ticket, and keeps none.
type tickets struct{ came bool }

func (t *tickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (t *tickets) Put(_ string, state *tls.ClientSessionState) {
	if state != nil {
		t.came = true
	}
}

// allSuites are the cipher suites of crypto/tls, the weak ones behind: a server
// that has nothing better is to be told of, not missed.
var allSuites = sync.OnceValue(func() (ids []uint16) {
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		ids = append(ids, suite.ID)
	}
	return ids
})

// config offers all that crypto/tls has, and takes every certificate: what a
// client would refuse is judged afterwards, and in words.
func (o *Options) config(serverName string) *tls.Config {
	return &tls.Config{
		ServerName: serverName, NextProtos: o.ALPN,
		MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS13, CipherSuites: allSuites(),
		InsecureSkipVerify: true,
	}
}

func (s *session) handshake() bool {
	return s.step("handshake", func() (string, *Finding) {
		config := s.config(s.ServerName)
		config.ClientSessionCache = &s.tickets
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			s.asked = true
			return new(tls.Certificate), nil
		}
		secured, err := s.link.secure(config)
		if err != nil {
			s.broken = true
			return "", s.handshakeFault(err)
		}
		s.state = secured.ConnectionState()
		s.chain = s.state.PeerCertificates
		return s.tlsFacts()
	})
}

// tlsFacts fills in Session.TLS, and tells whether clients of today speak that.
func (s *session) tlsFacts() (string, *Finding) {
	t := &TLS{
		Version: tlsopts.Version(s.state.Version).String(), Cipher: tlsopts.CipherSuiteName(s.state.CipherSuite),
		ALPNOffered: append([]string{}, s.ALPN...), ALPN: shown(s.state.NegotiatedProtocol),
		SessionTicket: s.tickets.came, ClientCertificateRequested: s.asked, OCSP: s.stapled(),
	}
	if _, err := netip.ParseAddr(s.ServerName); err != nil {
		t.ServerNameSent = s.ServerName
	}
	if id := s.state.CurveID; id != 0 {
		t.Group, t.PostQuantum = tlsopts.CurveName(id), isPostQuantum(id)
	}
	s.out.TLS = t
	text := fmt.Sprintf("%s, %s", t.Version, t.Cipher)
	if s.state.Version < tls.VersionTLS12 {
		return text, &Finding{Level: Fail, ID: "version_old", Text: fmt.Sprintf("the server speaks nothing newer than %s, which mail clients refuse (RFC 8996)", t.Version),
			Mend: "switch TLSv1.2 and TLSv1.3 on in the server, or put smtp-tlsproxy in front of it"}
	}
	if slices.ContainsFunc(tls.InsecureCipherSuites(), func(c *tls.CipherSuite) bool { return c.ID == s.state.CipherSuite }) {
		return text, &Finding{Level: Warn, ID: "cipher_weak", Text: fmt.Sprintf("the server chose the weak cipher suite %s although it was offered better ones", t.Cipher),
			Mend: "switch on suites with ECDHE and AES-GCM or ChaCha20 in the server (RFC 9325 section 4.2)"}
	}
	return text, nil
}

// isPostQuantum tells the hybrid groups, which a quantum computer does not break.
func isPostQuantum(id tls.CurveID) bool {
	return id == tls.X25519MLKEM768 || id == tls.SecP256r1MLKEM768 || id == tls.SecP384r1MLKEM1024
}

// stapled judges the OCSP response.
func (s *session) stapled() OCSP {
	if len(s.state.OCSPResponse) == 0 {
		if sni.MustStaple(s.chain[0]) {
			s.found(Finding{Level: Warn, ID: "staple_missing", Text: "the certificate demands an OCSP staple (must-staple, RFC 7633), and the server sends none: some clients refuse that",
				Mend: "switch OCSP stapling on, or get a certificate without must-staple"})
		}
		return OCSP{}
	}
	pair := &tls.Certificate{Leaf: s.chain[0], OCSPStaple: s.state.OCSPResponse}
	for _, cert := range s.chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	until, err := sni.CheckStaple(pair, s.Now())
	if err != nil {
		text := shown(err.Error())
		s.found(Finding{Level: Fail, ID: "staple_bad", Text: "the OCSP staple is not good: " + text,
			Mend: "clients that look at it break off: renew it, or staple none; a revoked certificate has to be replaced"})
		return OCSP{Stapled: true, Text: text}
	}
	until = until.UTC()
	return OCSP{Stapled: true, Good: true, Until: &until}
}
