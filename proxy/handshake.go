package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// handshake does the TLS handshake under one absolute deadline, the same way
// on every listener.
func (s *session) handshake() *ending {
	began := time.Now()
	ctx, cancel := context.WithTimeout(s.srv.killed, s.HandshakeTimeout)
	defer cancel()
	s.conn.beginTurns(ctx)
	defer s.conn.endTurns()
	conn := tls.Server(s.conn, s.service.tls.config)
	err := conn.HandshakeContext(ctx)
	if err == nil {
		s.tls, s.state = conn, conn.ConnectionState()
		s.hello.info = nil
		s.to = s.service.destinationOf(s.state.ServerName)
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
	if s.checksHealth(err) {
		return &ending{metrics.SessionPreTLS, fmt.Errorf("before TLS: %w", err)}
	}
	failed := s.failedHandshake(s.conn.clearAlert(err))
	s.metrics.HandshakeFailed(failed.reason)
	if failed.alerted {
		s.metrics.ClientAlert(failed.alert)
	}
	s.remember(failed)
	s.explainHandshake(failed)
	if s.Mode == ModeSTARTTLS {
		s.metrics.STARTTLS(metrics.STARTTLSHandshakeFailed)
	}
	return &ending{metrics.SessionHandshakeFailed, failed}
}

// failedHandshake is the error of a handshake, and what is to be told of it.
type failedHandshake struct {
	reason  metrics.HandshakeFailure
	alert   tlsopts.Alert // of the client, where it ended the handshake by one
	alerted bool
	err     error
}

func (s *session) failedHandshake(err error) *failedHandshake {
	f := &failedHandshake{reason: handshakeFailure(s.hello, err), err: s.hello.explain(err)}
	f.alert, f.alerted = tlsopts.RemoteAlert(err)
	return f
}

// clearAlert finds the alert of a client that sends it without encryption when
// it is due under keys already, as OpenSSL does that refuses a certificate in
// TLS 1.3. To crypto/tls that is a record that can not be decrypted.
func (c *clientConn) clearAlert(err error) error {
	const alert, warning, fatal = 21, 1, 2
	local, ok := errors.AsType[*net.OpError](err)
	if !ok || local.Op != "local error" || local.Err == nil || local.Err.Error() != textBadMAC {
		return err
	}
	record := c.turn.tail
	if record[0] != alert || record[1] != 3 || record[3] != 0 || record[4] != 2 || record[5] != warning && record[5] != fatal {
		return err
	}
	return &net.OpError{Op: "remote error", Err: tls.AlertError(record[6])}
}

// textBadMAC is what crypto/tls says of the alert bad_record_mac.
var textBadMAC = tls.AlertError(20).Error()

func (f *failedHandshake) Error() string { return "TLS handshake: " + f.err.Error() }
func (f *failedHandshake) Unwrap() error { return f.err }

// attributes are those of a log line. The error has crypto/tls's words for the
// alert; this is its name, as clients and RFC 8446 have it.
func (f *failedHandshake) attributes() []slog.Attr {
	attributes := []slog.Attr{slog.String("reason", string(f.reason))}
	if f.alerted {
		attributes = append(attributes, slog.String("alert", f.alert.String()))
	}
	return attributes
}

// textNoSignature is what crypto/tls says of a client that takes no signature
// that our key makes; before TLS 1.3 mostly no suite fits either.
const textNoSignature = "peer doesn't support any of the certificate's signature algorithms"

// failureTexts are the messages of crypto/tls that have no type. A test holds
// them against real handshakes, so that a new Go can not change them unseen.
var failureTexts = []struct {
	text   string
	reason metrics.HandshakeFailure
}{
	{"client offered only unsupported versions", metrics.HandshakeNoSharedVersion},
	{"no cipher suite supported by both", metrics.HandshakeNoSharedCipher},
	{"no key exchanges supported by both", metrics.HandshakeNoSharedCipher},
	{textNoSignature, metrics.HandshakeNoSharedCipher},
	{"client requested unsupported application protocols", metrics.HandshakeALPN},
	{"client didn't provide a certificate", metrics.HandshakeClientCertRequired},
	{"client certificate", metrics.HandshakeClientCertBad},
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
		if starttls.StartsHTTP(record.RecordHeader[:]) {
			return metrics.HandshakeHTTP
		}
		return metrics.HandshakePlaintext
	}
	if alert, ok := tlsopts.RemoteAlert(err); ok {
		if alert.RejectsCertificate() {
			return metrics.HandshakeClientRejected
		}
		return metrics.HandshakeClientAlert
	}
	_, unverified := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case unverified, errors.Is(err, tlsopts.ErrPinMismatch):
		return metrics.HandshakeClientCertBad
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
