package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// ending is how a session ended. A nil *ending is an orderly end.
type ending struct {
	outcome metrics.SessionOutcome
	err     error // may be nil
}

// errCut is the end of sessions that outlived the drain.
var errCut = errors.New("cut at the end of the drain")

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

const (
	// closeTimeout bounds the write of the close_notify alert.
	closeTimeout = 5 * time.Second
	// lingerTimeout and lingerIdle bound the reading of what a client still
	// sends while it gets our last reply.
	lingerTimeout = 10 * time.Second
	lingerIdle    = time.Second
)

// close ends the client's connection so that it can read the last reply: to
// close a socket with unread bytes would make the kernel send a reset, which
// takes the reply away from the client.
func (s *session) close() {
	defer s.conn.Close()
	if s.tls != nil {
		_ = s.conn.SetDeadline(time.Now().Add(closeTimeout))
		_ = s.tls.CloseWrite() // the close_notify alert
	}
	if s.conn.CloseWrite() != nil {
		return // gone already
	}
	end := time.Now().Add(lingerTimeout)
	var discarded [512]byte // allocated in each session, and of use in few
	for {
		idle := time.Now().Add(lingerIdle)
		if idle.After(end) {
			idle = end
		}
		_ = s.conn.SetReadDeadline(idle)
		if _, err := s.conn.Read(discarded[:]); err != nil {
			return
		}
	}
}

// closeWrite ends our direction of a connection.
func closeWrite(conn net.Conn) error {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// report counts the session and writes its line. No text in it comes from a
// client but the server name, escaped and cut.
func (s *session) report(end *ending) {
	outcome, level := metrics.SessionOK, slog.LevelInfo
	if end != nil {
		outcome, level = end.outcome, end.level()
	}
	if s.own && level == slog.LevelInfo {
		level = slog.LevelDebug // a health check
	}
	duration := time.Since(s.began)
	var toBackend *metrics.Backend
	if s.forwarded {
		toBackend = s.to.metrics
	}
	s.metrics.SessionDone(toBackend, outcome, duration)
	if !s.srv.log.Enabled(context.Background(), level) {
		return
	}
	line := []slog.Attr{
		slog.String("id", s.id), slog.String("listener", s.Name), slog.String("client", s.client.String()),
		slog.String("server_name", escape.Field(s.hello.serverName)),
	}
	if s.balancer.IsValid() {
		line = append(line, slog.String("balancer", s.balancer.String()))
	}
	if s.tls != nil {
		line = append(line, slog.String("tls_version", tlsopts.Version(s.state.Version).String()),
			slog.String("cipher", tlsopts.CipherSuiteName(s.state.CipherSuite)))
	}
	if s.forwarded {
		line = append(line, slog.String("backend", s.to.Name))
	}
	line = append(line, slog.String("outcome", string(outcome)))
	if end != nil && end.err != nil {
		if failed, ok := errors.AsType[*failedHandshake](end.err); ok {
			line = append(line, failed.attributes()...)
		}
		line = append(line, slog.String("error", escape.Field(end.err.Error())))
	}
	line = append(line, slog.Uint64("messages", s.messages.Load()),
		slog.Uint64("bytes_to_backend", s.toBackend.Load()), slog.Uint64("bytes_to_client", s.toClient.Load()),
		slog.Float64("duration", duration.Round(time.Millisecond).Seconds()))
	s.srv.log.LogAttrs(context.Background(), level, "session", line...)
}

// level keeps scanners and health checks out of sight, and lifts out what an
// operator has to mend.
func (e *ending) level() slog.Level {
	switch e.outcome {
	case metrics.SessionPanic:
		return slog.LevelError
	case metrics.SessionBackendUnavailable, metrics.SessionBackendError:
		return slog.LevelWarn
	case metrics.SessionPreTLS, metrics.SessionHandshakeFailed:
		if errors.Is(e.err, io.EOF) || errors.Is(e.err, syscall.ECONNRESET) || errors.Is(e.err, syscall.EPIPE) {
			return slog.LevelDebug
		}
	case metrics.SessionRefused:
		if _, flood := errors.AsType[*refusal](e.err); flood {
			return slog.LevelDebug
		}
	}
	return slog.LevelInfo
}
