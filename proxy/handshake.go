package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// hello is what a session remembers of its ClientHello.
type hello struct {
	serverName string // as the client sent it
	refused    bool   // the name has no certificate, and this listener serves no other
	failed     error  // no certificate could be loaded
}

// handshake does the TLS handshake under one absolute deadline, the same way
// on every listener.
func (s *session) handshake() *ending {
	began := time.Now()
	ctx, cancel := context.WithTimeout(s.srv.killed, s.HandshakeTimeout)
	defer cancel()
	conn := tls.Server(s.conn, s.tlsConfig)
	err := conn.HandshakeContext(ctx)
	if err == nil {
		s.tls, s.state = conn, conn.ConnectionState()
		s.metrics.HandshakeDone(s.state, time.Since(began))
		if s.Mode == ModeSTARTTLS {
			s.metrics.STARTTLS(metrics.STARTTLSUpgraded)
		}
		return nil
	}
	if s.srv.killed.Err() != nil {
		if s.Mode == ModeSTARTTLS {
			s.metrics.STARTTLS(metrics.STARTTLSDrained)
		}
		return &ending{metrics.SessionDrained, fmt.Errorf("TLS handshake: %w", errCut)}
	}
	s.metrics.HandshakeFailed(handshakeFailure(s.hello, err))
	if s.Mode == ModeSTARTTLS {
		s.metrics.STARTTLS(metrics.STARTTLSHandshakeFailed)
	}
	return &ending{metrics.SessionHandshakeFailed, fmt.Errorf("TLS handshake: %w", s.hello.explain(err))}
}

// serverTLS is the listener's configuration with the callback that finds the
// certificate. It is made once and never changed.
func (s *service) serverTLS() *tls.Config {
	config := s.TLS.Clone()
	config.Certificates = nil       // else crypto/tls would serve one of these to clients without SNI
	config.GetConfigForClient = nil // else it could take another configuration than this
	config.GetCertificate = s.certificate
	return config
}

// certificate answers a ClientHello. (nil, nil) makes crypto/tls send the
// alert unrecognized_name, an error internal_error.
func (s *service) certificate(info *tls.ClientHelloInfo) (*tls.Certificate, error) {
	session := info.Conn.(*clientConn).session
	h := &session.hello
	h.serverName = info.ServerName
	match := s.Certificates.Lookup(info.ServerName)
	// Counted last: only a folder that was loaded has a series.
	defer func() { session.srv.metrics.SNIRequest(domain(match)) }()
	if s.RejectUnknownSNI && match.Unrecognized() {
		h.refused = true
		return nil, nil
	}
	cert, err := s.Certificates.GetCertificate(info)
	switch {
	case err != nil:
		h.failed = err
	case cert == nil:
		h.refused = true
	}
	return cert, err
}

// domain is the label of a match.
func domain(m sni.Match) string {
	switch {
	case m.Name == sni.NameAbsent:
		return metrics.DomainNone
	case m.Name == sni.NameKnown:
		return m.Folder
	}
	return metrics.DomainOther
}

// explain says what crypto/tls can not know.
func (h hello) explain(err error) error {
	switch {
	case h.failed != nil:
		return fmt.Errorf("no certificate can be served: %w", h.failed)
	case h.refused && h.serverName == "":
		return errors.New("the client named no server, and there is no default certificate")
	case h.refused:
		return errors.New("no certificate for the client's server name")
	}
	return err
}

// failureTexts are the messages of crypto/tls that have no type. A test holds
// them against real handshakes, so that a new Go can not change them unseen.
var failureTexts = []struct {
	text   string
	reason metrics.HandshakeFailure
}{
	{"client offered only unsupported versions", metrics.HandshakeNoSharedVersion},
	{"no cipher suite supported by both", metrics.HandshakeNoSharedCipher},
	{"no key exchanges supported by both", metrics.HandshakeNoSharedCipher},
	{"client requested unsupported application protocols", metrics.HandshakeALPN},
}

// handshakeFailure finds the reason in the closed set of the metrics.
func handshakeFailure(h hello, err error) metrics.HandshakeFailure {
	switch {
	case h.failed != nil:
		return metrics.HandshakeNoCertificate
	case h.refused && h.serverName != "":
		return metrics.HandshakeUnknownSNI
	case h.refused:
		return metrics.HandshakeNoCertificate
	case isTimeout(err):
		return metrics.HandshakeTimeout
	}
	if record, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		if startsHTTP(record.RecordHeader) {
			return metrics.HandshakeHTTP
		}
		return metrics.HandshakePlaintext
	}
	if remote, ok := errors.AsType[*net.OpError](err); ok && remote.Op == "remote error" {
		return metrics.HandshakeClientAlert
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return metrics.HandshakeEOF
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return metrics.HandshakeReset
	}
	for _, known := range failureTexts {
		if strings.Contains(err.Error(), known.text) {
			return known.reason
		}
	}
	return metrics.HandshakeOther
}

// startsHTTP knows a request by its first five bytes.
func startsHTTP(first [5]byte) bool {
	for _, method := range []string{"GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "CONNECT ", "DELETE ", "PATCH ", "TRACE ", "PRI "} {
		if strings.HasPrefix(method, string(first[:])) || strings.HasPrefix(string(first[:]), method) {
			return true
		}
	}
	return false
}
