package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// errDraining ends sessions that come to their backend after the drain began.
var errDraining = errors.New("shutting down")

// connect opens the backend's connection, tells it who the client is, and
// takes its greeting. The caller closes the connection. When that is not to
// be, the client gets a reply that says so.
func (s *session) connect() (conn net.Conn, greeting []byte, end *ending) {
	if s.srv.draining.Err() != nil {
		s.answerFirst(s.reply("421 4.3.2 %s shutting down (%s)"))
		return nil, nil, &ending{metrics.SessionDrained, errDraining}
	}
	conn, said, err := s.dial()
	if err == nil && said.Ready() {
		return conn, said.Text, nil
	}
	if conn != nil {
		conn.Close()
	}
	if s.srv.killed.Err() != nil {
		return nil, nil, &ending{metrics.SessionDrained, errCut}
	}
	if err == nil {
		s.backendMetrics.Error(metrics.BackendGreetingRejected)
		s.answerFirst(said.Text)
		return nil, nil, &ending{metrics.SessionBackendRefused, fmt.Errorf("backend's greeting: %s", bytes.TrimSpace(said.Text))}
	}
	failed, reason := backendFailure(err)
	s.backendMetrics.Error(reason)
	s.answerFirst(s.reply("421 4.3.2 %s service not available, try again later (%s)"))
	return nil, nil, &ending{metrics.SessionBackendUnavailable, failed}
}

// dial makes the connection and reads the greeting, whatever that says.
func (s *session) dial() (net.Conn, starttls.Greeting, error) {
	began := time.Now()
	conn, err := s.backend.Dial(s.srv.killed)
	if err != nil {
		return nil, starttls.Greeting{}, err
	}
	s.backendMetrics.Dialed(time.Since(began))
	cut := context.AfterFunc(s.srv.killed, func() { conn.Close() })
	defer cut()
	if err := s.writeHeader(conn); err != nil {
		return conn, starttls.Greeting{}, &phaseError{metrics.BackendHeader, fmt.Errorf("PROXY header: %w", err)}
	}
	if err := conn.SetDeadline(time.Now().Add(s.Timeouts.Greeting)); err != nil {
		return conn, starttls.Greeting{}, err
	}
	greeting, err := starttls.ReadGreeting(conn)
	if err == nil {
		return conn, greeting, conn.SetDeadline(time.Time{})
	}
	reason := metrics.BackendGreetingInvalid
	if isTimeout(err) {
		reason = metrics.BackendGreetingTimeout
	}
	return conn, greeting, &phaseError{reason, fmt.Errorf("greeting: %w", err)}
}

// writeHeader tells the backend who the client is, in one write. A session
// without that would be one of the proxy's own, which backends trust.
func (s *session) writeHeader(conn net.Conn) error {
	state := s.tls.ConnectionState()
	name, _ := sni.ServerName(state.ServerName)
	header, err := s.header.Encode(proxyheader.Facts{
		Client:     s.client,
		Local:      s.local,
		TLS:        &state,
		ServerName: name,
		SessionID:  s.id,
	})
	if err != nil {
		return err
	}
	_, err = conn.Write(header)
	return err
}

// phaseError is a failure behind the dial, with its reason.
type phaseError struct {
	reason metrics.BackendError
	err    error
}

func (e *phaseError) Error() string { return e.err.Error() }
func (e *phaseError) Unwrap() error { return e.err }

// backendFailure finds the reason in the closed set of the metrics.
func backendFailure(err error) (error, metrics.BackendError) {
	if phase, ok := errors.AsType[*phaseError](err); ok {
		return err, phase.reason
	}
	err = fmt.Errorf("connecting: %w", err)
	_, dns := errors.AsType[*net.DNSError](err)
	switch {
	case dns:
		return err, metrics.BackendDNS
	case isTimeout(err):
		return err, metrics.BackendTimeout
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return err, metrics.BackendRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return err, metrics.BackendUnreachable
	}
	return err, metrics.BackendOther
}

// reply makes a reply of ours, which carries the host name and the session's id.
func (s *session) reply(format string) []byte {
	return fmt.Appendf(nil, format+"\r\n", s.Hostname, s.id)
}

// maxFirstCommand bounds what is read while a client's first command is
// awaited, as long as any command may be (RFC 4954 section 4.5.1).
const maxFirstCommand = 12288

// answerFirst says why there is no backend: as the greeting on implicit TLS,
// and as the reply to the first command after STARTTLS, where nothing may be
// sent before that (RFC 3207 section 4.2).
func (s *session) answerFirst(reply []byte) {
	wait := s.Timeouts.PlainIdle
	if wait == 0 {
		wait = starttls.DefaultIdleTimeout
	}
	_ = s.tls.SetDeadline(time.Now().Add(wait)) // a connection that is gone shows in what follows
	if s.Mode == ModeSTARTTLS {
		stop := context.AfterFunc(s.srv.draining, func() { s.tls.SetReadDeadline(time.Now().Add(lingerIdle)) })
		defer stop()
		commands := bufio.NewReaderSize(io.LimitReader(s.tls, maxFirstCommand), maxFirstCommand)
		if _, err := commands.ReadSlice('\n'); err != nil {
			return // nobody waits for a reply
		}
	}
	_, _ = s.tls.Write(reply) // the session ends in any case
}
