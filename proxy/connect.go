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

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// errDraining ends sessions that come to their backend after the drain began.
var errDraining = errors.New("shutting down")

// connect opens the backend's connection, tells it who the client is, and
// takes its greeting, and the reply to the EHLO of a client in plain text. The
// caller closes the connection. When that is not to be, the client gets a reply
// that says so.
func (s *session) connect() (conn net.Conn, greeting []byte, end *ending) {
	if s.own {
		return nil, nil, s.noClient()
	}
	s.forwarded = true
	conn, said, err := s.dial()
	if err == nil && said.Ready() {
		return conn, said.Text, nil
	}
	if err == nil {
		conn.Close()
	}
	if s.srv.draining.Err() != nil {
		s.answerFirst(s.reply("421 4.3.2 %s shutting down (%s)"))
		return nil, nil, &ending{metrics.SessionDrained, errDraining}
	}
	if err == nil {
		s.to.metrics.Error(metrics.BackendGreetingRejected)
		s.answerFirst(said.Text)
		return nil, nil, &ending{metrics.SessionBackendRefused, fmt.Errorf("backend's %s: %s", s.refusable(), bytes.TrimSpace(said.Text))}
	}
	reason, failed := backendFailure(err)
	s.to.metrics.Error(reason)
	s.answerFirst(s.reply("421 4.3.2 %s service not available, try again later (%s)"))
	return nil, nil, &ending{metrics.SessionBackendUnavailable, failed}
}

// refusable names what of the backend's may have refused the client.
func (s *session) refusable() string {
	if s.plaintext != nil {
		return "greeting or reply to EHLO"
	}
	return "greeting"
}

// dial makes the connection and reads the greeting, whatever that says. It
// gives up when a drain begins: no transaction is open yet.
func (s *session) dial() (stream net.Conn, greeting starttls.Greeting, err error) {
	header, err := s.proxyHeader()
	if err != nil {
		return nil, greeting, &phaseError{metrics.BackendHeader, fmt.Errorf("PROXY header: %w", err)}
	}
	var client proxyheader.Client
	if s.to.ClientInfo == XCLIENT { // once for all addresses, and before one is kept waiting
		client = s.xclientFacts()
	}
	began := time.Now()
	_, err = s.to.pool.Dial(s.srv.draining, s.client.Addr(), func(conn net.Conn) error {
		s.to.metrics.Dialed(time.Since(began))
		spared := context.AfterFunc(s.srv.draining, func() { conn.Close() })
		var err error
		stream, greeting, err = s.greet(conn, header, client)
		if !spared() {
			return errDraining
		}
		if err != nil && len(greeting.Text) == 0 && hungUp(err) {
			return &backend.Elsewhere{Err: err}
		}
		return err
	})
	return stream, greeting, err
}

// hungUp tells of a backend that went before it greeted: it has heard nothing of
// the client's, so another can serve it.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// greet begins the connection, up to the backend's greeting for the client. A
// client in plain text said EHLO to us; then the backend's reply to that comes
// in place of the greeting.
func (s *session) greet(conn net.Conn, header []byte, client proxyheader.Client) (net.Conn, starttls.Greeting, error) {
	if err := conn.SetDeadline(time.Now().Add(s.Timeouts.Greeting)); err != nil {
		return nil, starttls.Greeting{}, err
	}
	stream, greeting, err := s.to.opening.greet(conn, header)
	if err == nil && greeting.Ready() && s.to.ClientInfo == XCLIENT {
		greeting, err = s.to.opening.xclient(stream, client)
	}
	if err == nil && greeting.Ready() && s.plaintext != nil {
		if greeting, err = s.plaintext.Replay(stream); err != nil {
			err = &phaseError{greetingFailure(err), fmt.Errorf("no reply to EHLO: %w", err)}
		}
	}
	if err != nil {
		return nil, greeting, err
	}
	return stream, greeting, conn.SetDeadline(time.Time{})
}

// proxyHeader tells the backend who the client is, where it is told so. A
// session without it would be one of the proxy's own, which backends trust.
func (s *session) proxyHeader() ([]byte, error) {
	if !s.to.opening.sendsHeader() {
		return nil, nil
	}
	facts := proxyheader.Facts{Client: s.client, Local: s.local, SessionID: s.id}
	if s.tls != nil {
		who := s.hello.clientAuth.Identify(s.state)
		facts.TLS, facts.Verified, facts.CommonName = &s.state, who.Verified, who.CommonName
		facts.ServerName, _ = sni.ServerName(s.state.ServerName)
	}
	return s.to.opening.header.Encode(facts)
}

// phaseError is a failure behind the dial, with its reason.
type phaseError struct {
	reason metrics.BackendError
	err    error
}

func (e *phaseError) Error() string { return e.err.Error() }
func (e *phaseError) Unwrap() error { return e.err }

// backendFailure finds the reason in the closed set of the metrics.
func backendFailure(err error) (metrics.BackendError, error) {
	if phase, ok := errors.AsType[*phaseError](err); ok {
		return phase.reason, err
	}
	err = fmt.Errorf("connecting: %w", err)
	_, dns := errors.AsType[*net.DNSError](err)
	switch {
	case dns:
		return metrics.BackendDNS, err
	case isTimeout(err):
		return metrics.BackendTimeout, err
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return metrics.BackendRefused, err
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return metrics.BackendUnreachable, err
	}
	return metrics.BackendOther, err
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
// sent before that (RFC 3207 section 4.2). A client in plain text waits for
// the reply to a command already.
func (s *session) answerFirst(reply []byte) {
	wait := s.Timeouts.PlainIdle
	if wait == 0 {
		wait = starttls.DefaultIdleTimeout
	}
	client := s.stream()
	_ = client.SetDeadline(time.Now().Add(wait)) // a connection that is gone shows in what follows
	if s.Mode == ModeSTARTTLS && s.plaintext == nil {
		stop := context.AfterFunc(s.srv.draining, func() { client.SetReadDeadline(time.Now().Add(lingerIdle)) })
		defer stop()
		commands := bufio.NewReaderSize(io.LimitReader(client, maxFirstCommand), maxFirstCommand)
		if _, err := commands.ReadSlice('\n'); err != nil {
			return // nobody waits for a reply
		}
	}
	_, _ = client.Write(reply) // the session ends in any case
}
