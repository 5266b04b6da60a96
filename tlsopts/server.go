package tlsopts

import (
	"crypto/tls"
	"io"
	"slices"
)

// CertificateSource gives the certificates that may serve a client, most
// preferred first and of different key types; it is asked up to twice in a
// handshake. None at all refuses the client with the alert unrecognized_name, an
// error with internal_error.
type CertificateSource func(*tls.ClientHelloInfo) ([]*tls.Certificate, error)

// Server holds to the order of cipher suites and curves, which crypto/tls
// ignores: for each client it decides on the one suite, curve and certificate,
// and hands crypto/tls a configuration that has only these. The configurations
// are made once and never change.
//
// A Server is safe for concurrent use.
type Server struct {
	policy  *policy
	source  CertificateSource
	front   *tls.Config
	tickets *BoundTickets // nil: sessions do not resume
	pinned  map[pin]*tls.Config
}

// pin is a decision. A zero field leaves it to crypto/tls.
type pin struct {
	suite uint16
	group tls.CurveID
}

// ServerConfig is what a Server needs besides Options.
type ServerConfig struct {
	// Certificates finds those for a client; required.
	Certificates CertificateSource
	// ClientAuth says which client certificates are asked for and accepted; the
	// default is none.
	ClientAuth ClientAuth
	// Tickets lets sessions resume. nil is never.
	Tickets *Tickets
	// ServerName and Context are what tickets are bound to besides ClientAuth:
	// the certificate folder and the listener's context. See Binding.
	ServerName, Context string
	// KeyLog gets the secrets of every session in NSS key log format, for
	// Wireshark. It makes the encryption void. nil is none.
	KeyLog io.Writer
}

// Server makes a Server for the options.
func (o Options) Server(c ServerConfig) (*Server, error) {
	p, err := o.resolve()
	if err != nil {
		return nil, err
	}
	s := &Server{policy: p, source: c.Certificates, front: p.config(), pinned: make(map[pin]*tls.Config)}
	s.front.GetCertificate = s.certificate
	s.front.KeyLogWriter = c.KeyLog
	if err := c.ClientAuth.Apply(s.front); err != nil {
		return nil, err
	}
	if c.Tickets != nil {
		s.tickets = c.Tickets.Bind(s.front, Binding{ServerName: c.ServerName, Context: c.Context, ClientAuth: c.ClientAuth})
	}

	groups := []tls.CurveID{0}
	if p.groupOrder {
		groups = append(groups, p.groups...)
	}
	for _, suite := range append([]uint16{0}, p.suites...) {
		for _, group := range groups {
			s.pinned[pin{suite, group}] = s.pin(suite, group)
		}
	}
	s.front.SessionTicketsDisabled = true // what resumes is under the others
	s.front.GetConfigForClient = s.ConfigForClient
	return s, nil
}

// pin makes the configuration for a decision.
func (s *Server) pin(suite uint16, group tls.CurveID) *tls.Config {
	c := s.front.Clone()
	if suite != 0 {
		c.CipherSuites = []uint16{suite}
	}
	if group != 0 {
		c.CurvePreferences = []tls.CurveID{group}
	}
	return c
}

// Config is the configuration to listen with. It must not be changed.
func (s *Server) Config() *tls.Config {
	return s.front
}

// ConfigForClient is for tls.Config.GetConfigForClient of a listener that has
// Servers for different clients. A client that nothing fits gets a
// configuration with all suites, so that crypto/tls tells it, and us, why not.
func (s *Server) ConfigForClient(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	certificates, err := s.source(hello)
	if err != nil {
		return nil, err
	}
	decision, _ := s.policy.decide(hello, certificates)
	config := s.pinned[decision]
	if s.tickets != nil {
		config = s.tickets.ForClient(config, hello)
	}
	return config, nil
}

// certificate gives the certificate that ConfigForClient chose the suite for.
func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	certificates, err := s.source(hello)
	if err != nil || len(certificates) == 0 {
		return nil, err
	}
	_, chosen := s.policy.decide(hello, certificates)
	return chosen, nil
}

// decide takes the first suite by the order that holds, and the first
// certificate that can be used with it. It gives the first certificate if none
// can.
func (p *policy) decide(hello *tls.ClientHelloInfo, certificates []*tls.Certificate) (pin, *tls.Certificate) {
	if len(certificates) == 0 {
		return pin{}, nil
	}
	version := mutualVersion(p.min, p.max, hello)
	switch version {
	case 0:
		return pin{}, certificates[0]
	case TLS13:
		for _, c := range certificates {
			if canSign(c, TLS13, hello) {
				return pin{group: p.group(version, hello)}, c
			}
		}
		return pin{group: p.group(version, hello)}, certificates[0]
	}
	curve := supportsECDHE(hello, p.groups)
	first, second := p.suites, hello.CipherSuites
	if p.clientOrder {
		first, second = second, first
	}
	for _, id := range first {
		s := suiteByID[id]
		if s == nil || !slices.Contains(second, id) || version < TLS12 && s.has(sinceTLS12) || s.has(kxECDHE) && !curve {
			continue
		}
		for _, c := range certificates {
			if !fits(s, c, version, hello) {
				continue
			}
			if !s.has(kxECDHE) {
				return pin{suite: id}, c
			}
			return pin{suite: id, group: p.group(version, hello)}, c
		}
	}
	return pin{}, certificates[0]
}

// mutualVersion is the version that crypto/tls will take, or 0.
func mutualVersion(lowest, highest Version, hello *tls.ClientHelloInfo) Version {
	for v := highest; v >= lowest; v-- {
		if slices.Contains(hello.SupportedVersions, uint16(v)) {
			return v
		}
	}
	return 0
}

// group is the first of our list that the client supports, or 0 if the order is
// left to crypto/tls or none is shared.
func (p *policy) group(version Version, hello *tls.ClientHelloInfo) tls.CurveID {
	if !p.groupOrder {
		return 0
	}
	for _, id := range p.groups {
		if (version == TLS13 || !isHybrid(id)) && slices.Contains(hello.SupportedCurves, id) {
			return id
		}
	}
	return 0
}

// supportsECDHE tells, for TLS 1.2 and below, whether there is a curve in
// common, and its points can be written down (RFC 8422 section 5.1).
func supportsECDHE(hello *tls.ClientHelloInfo, groups []tls.CurveID) bool {
	const uncompressed = 0
	if len(hello.SupportedPoints) > 0 && !slices.Contains(hello.SupportedPoints, uncompressed) {
		return false
	}
	for _, id := range hello.SupportedCurves {
		if !isHybrid(id) && slices.Contains(groups, id) {
			return true
		}
	}
	return false
}
