package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// explainHandshake tells, for those who look for it, why a handshake failed:
// what the client offered, what of it would have been accepted, and what to do.
func (s *session) explainHandshake(failed *failedHandshake) {
	info := s.hello.info
	if info == nil || !s.srv.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	line := []slog.Attr{
		slog.String("id", s.id), slog.String("listener", s.Name), slog.String("client", s.client.String()),
		slog.String("server_name", escape.Field(info.ServerName)),
	}
	line = append(line, failed.attributes()...)
	line = append(line,
		slog.String("why", s.why(failed)),
		slog.String("meaning", failed.reason.Meaning()),
		slog.String("mend", failed.reason.Mend()),
		slog.String("client_versions", list(info.SupportedVersions, versionName)),
		slog.String("client_ciphers", list(info.CipherSuites, tlsopts.CipherSuiteName)),
		slog.String("client_groups", list(info.SupportedCurves, tlsopts.CurveName)),
		slog.String("client_signatures", list(info.SignatureSchemes, tls.SignatureScheme.String)),
		slog.String("client_alpn", escape.Field(strings.Join(info.SupportedProtos, " "))),
	)
	s.srv.log.LogAttrs(context.Background(), slog.LevelDebug, "handshake failed", line...)
}

func versionName(v uint16) string { return tlsopts.Version(v).String() }

// maxListed is how many values of a list are logged; real clients offer fewer.
const maxListed = 40

func list[T any](values []T, name func(T) string) string {
	names := make([]string, min(len(values), maxListed))
	for i := range names {
		names[i] = name(values[i])
	}
	return strings.Join(names, " ")
}

// why puts the failure into words that name our side of it.
func (s *session) why(failed *failedHandshake) string {
	ours, info := s.service.tls.config, s.hello.info
	switch failed.reason {
	case metrics.HandshakeNoSharedVersion:
		return fmt.Sprintf("no shared version: we accept %s to %s", versionName(ours.MinVersion), versionName(ours.MaxVersion))
	case metrics.HandshakeALPN:
		return "no shared ALPN name: we accept " + strings.Join(ours.NextProtos, ", ") + ", and clients that offer none"
	case metrics.HandshakeNoSharedCipher:
		suites := slices.ContainsFunc(info.CipherSuites, func(id uint16) bool { return slices.Contains(ours.CipherSuites, id) })
		groups := slices.ContainsFunc(info.SupportedCurves, func(id tls.CurveID) bool { return slices.Contains(ours.CurvePreferences, id) })
		switch {
		case strings.Contains(failed.Error(), textNoSignature):
			return "no signature algorithm that fits the certificate's key: the client takes " + list(info.SignatureSchemes, tls.SignatureScheme.String)
		case !suites && !slices.Contains(info.SupportedVersions, tls.VersionTLS13):
			return "no shared cipher suite: we accept " + list(ours.CipherSuites, tlsopts.CipherSuiteName)
		case !groups:
			return "no shared group: we accept " + list(ours.CurvePreferences, tlsopts.CurveName)
		}
		return "no shared cipher suite that fits the certificate's key, or no signature algorithm of it: the client takes " +
			list(info.SignatureSchemes, tls.SignatureScheme.String)
	}
	return escape.Field(failed.err.Error())
}
