package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// Mode is how clients of a listener come to TLS.
type Mode int

// The modes of a listener. The zero value is none of them.
const (
	ModeImplicitTLS Mode = iota + 1 // TLS from the first byte (RFC 8314, port 465)
	ModeSTARTTLS                    // STARTTLS (RFC 3207, ports 587 and 25)
)

func (m Mode) String() string {
	switch m {
	case ModeImplicitTLS:
		return "implicit"
	case ModeSTARTTLS:
		return "starttls"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// Defaults of Timeouts and of Listener.
const (
	DefaultHandshakeTimeout = 30 * time.Second
	DefaultRelayIdle        = 11 * time.Minute // a client waits 10 for the reply to its final dot (RFC 5321 section 4.5.3.2.6)
	DefaultGreeting         = 5 * time.Minute  // RFC 5321 section 4.5.3.2.1
	DefaultHalfClose        = 30 * time.Second
)

// Config is what a Server serves.
type Config struct {
	Listeners []Listener
	Limits    Limits
	Metrics   *Metrics     // nil: nothing is counted
	Logger    *slog.Logger // nil: nothing is logged
}

// Metrics counts what sessions do. [NewMetrics] makes it.
type Metrics = metrics.Proxy

// NewMetrics registers the metrics of a Server.
func NewMetrics(r prometheus.Registerer) *Metrics { return metrics.NewProxy(r) }

// Listener is one address and what clients get there.
type Listener struct {
	// Name stands in logs and metrics, so it must not come from a client.
	Name string
	// Address is host:port; the host may be empty, and port 0 takes any that
	// is free (see Server.Addr).
	Address string
	Mode    Mode
	// STARTTLS tells, with ModeSTARTTLS, whether clients may send mail without.
	STARTTLS starttls.Policy
	// TLS is what is negotiated; the zero value is a secure default.
	TLS tlsopts.Options
	// ClientAuth says which client certificates are asked for and accepted; the
	// default is none.
	ClientAuth tlsopts.ClientAuth
	// Tickets lets sessions resume, each under its own server name and in the
	// listeners with the same TicketContext. nil is never. The caller closes
	// it once no listener has it.
	Tickets       *tlsopts.Tickets
	TicketContext string
	// NoStapling leaves out the OCSP responses that Certificates has, but for
	// folders whose Override wants them.
	NoStapling bool
	// KeyLog gets the secrets of every session, for Wireshark. nil is none.
	KeyLog io.Writer
	// Certificates answers the server names. It must stay open as long as the
	// listener is served.
	Certificates *sni.Store
	// RejectUnknownSNI refuses names without a certificate with the alert
	// unrecognized_name, in place of serving the default certificate. A port
	// for mail exchange must not (RFC 8461 section 7.1).
	RejectUnknownSNI bool
	// HandshakeTimeout is one bound for the whole handshake, however slowly
	// its bytes come. 0 means DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration
	// Hostname stands in greetings and in replies that the proxy makes. It is
	// required.
	Hostname string
	// AsBackend puts the backend's own name in place of Hostname into greetings
	// and replies to EHLO before TLS, once a health check has heard it.
	AsBackend bool
	// GreetDelay is how long our greeting waits for clients that talk before it,
	// which are refused; 0 is not at all. See starttls.Server.
	GreetDelay time.Duration
	// MaxPlainCommands and MaxPlainErrors bound the phase before STARTTLS.
	// 0 means the defaults of starttls.Server.
	MaxPlainCommands, MaxPlainErrors int

	Timeouts Timeouts
	Backend  Backend
}

// Timeouts bound the phases of a session. 0 means the default.
type Timeouts struct {
	PlainIdle time.Duration // for each command before STARTTLS
	Greeting  time.Duration // for the backend's greeting
	RelayIdle time.Duration // without a byte in either direction
	HalfClose time.Duration // after the client ended its stream, when no reply is owed
}

// Backend is the SMTP server behind a listener.
type Backend struct {
	Name           string        // in logs and metrics
	Addresses      []string      // host:port, where each address of a host name counts, or unix:/path
	ConnectTimeout time.Duration // of each address; 0 means 10 seconds
	ProxyVersion   int           // of the PROXY protocol: 1 or 2
	ProxyTLVs      []string      // of version 2, none by default: ssl, authority, unique_id, crc32c, alpn
	MaxHeaderBytes int           // of version 2, at least 128; 0 means 232
	// TraceHeader puts a Received header before each message, for backends that
	// do not pass on what the PROXY header tells of TLS. BDAT is not offered then.
	TraceHeader bool
	Balance     Balance     // the zero value is LeastConnections
	HealthCheck HealthCheck // the zero value is every 10 seconds
}

// Balance is how clients are shared out among the addresses that are up.
type Balance = backend.Balance

// The ways to share clients out.
const (
	LeastConnections = backend.LeastConnections // the address with the fewest open connections
	RoundRobin       = backend.RoundRobin       // one after the other
	ClientHash       = backend.ClientHash       // the same for each client IP address, IPv6 by its /64
)

// HealthCheck says how often each address is probed as by [CheckBackend], and
// what becomes of it. Zero fields have the default; a negative Interval is no
// health checks.
type HealthCheck = backend.HealthCheck

// dialer opens the connections to a backend, each for a client.
type dialer interface {
	Dial(ctx context.Context, client netip.Addr) (net.Conn, error)
}

// service is a Listener made ready. It never changes, so that a session keeps
// the one with which it began.
type service struct {
	Listener
	tls            *identities
	plain          *starttls.Server
	backend        dialer // a pool, given by usePools
	header         proxyheader.Format
	metrics        *metrics.Listener
	backendMetrics *metrics.Backend
}

// check finds what would fail, or do harm, once clients come.
func (l Listener) check() error {
	switch {
	case l.Mode != ModeImplicitTLS && l.Mode != ModeSTARTTLS:
		return fmt.Errorf("listener %s: no mode", l.Name)
	case l.Mode != ModeSTARTTLS && l.STARTTLS != starttls.Required:
		return fmt.Errorf("listener %s: optional STARTTLS needs the mode %s", l.Name, ModeSTARTTLS)
	case l.Certificates == nil:
		return fmt.Errorf("listener %s: no certificates", l.Name)
	case l.Hostname == "" || strings.ContainsAny(l.Hostname, " \t\r\n"):
		return fmt.Errorf("listener %s: %q is no host name", l.Name, l.Hostname)
	case l.Backend.ProxyVersion != 1 && l.Backend.ProxyVersion != 2:
		return fmt.Errorf("backend %s: PROXY protocol version %d: want 1 or 2", l.Backend.Name, l.Backend.ProxyVersion)
	case len(l.Backend.Addresses) == 0:
		return fmt.Errorf("backend %s: no address", l.Backend.Name)
	case l.Backend.ProxyVersion == 2 && l.Backend.MaxHeaderBytes != 0 && l.Backend.MaxHeaderBytes < proxyheader.MinMaxBytes:
		return fmt.Errorf("backend %s: a PROXY header of %d bytes can not tell of TLS: want at least %d",
			l.Backend.Name, l.Backend.MaxHeaderBytes, proxyheader.MinMaxBytes)
	case !slices.Contains(balances, l.Backend.Balance):
		return fmt.Errorf("backend %s: %q is no way to balance: want one of %q", l.Backend.Name, l.Backend.Balance, balances[1:])
	}
	for _, name := range l.Backend.ProxyTLVs {
		if !slices.Contains(proxyTLVs, proxyheader.TLV(name)) {
			return fmt.Errorf("backend %s: %q is no TLV of the PROXY protocol: want some of %q", l.Backend.Name, name, proxyTLVs)
		}
	}
	return nil
}

// newService checks a listener and makes it ready.
func newService(l Listener) (*service, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	setDefault(&l.HandshakeTimeout, DefaultHandshakeTimeout)
	setDefault(&l.Timeouts.Greeting, DefaultGreeting)
	setDefault(&l.Timeouts.RelayIdle, DefaultRelayIdle)
	setDefault(&l.Timeouts.HalfClose, DefaultHalfClose)
	s := &service{
		Listener: l,
		header:   headerFormat(l.Backend),
	}
	s.plain = &starttls.Server{
		Policy:       l.STARTTLS,
		Hostname:     l.Hostname,
		Identity:     s.identity,
		GreetDelay:   l.GreetDelay,
		IdleTimeout:  l.Timeouts.PlainIdle,
		MaxCommands:  l.MaxPlainCommands,
		MaxErrors:    l.MaxPlainErrors,
		TLSAvailable: s.tlsAvailable,
	}
	var err error
	if s.tls, err = newIdentities(&s.Listener); err != nil {
		return nil, fmt.Errorf("listener %s: %w", l.Name, err)
	}
	return s, nil
}

var balances = []Balance{"", LeastConnections, RoundRobin, ClientHash}

// proxyTLVs are all that can be sent.
var proxyTLVs = append(slices.Clone(proxyheader.DefaultTLVs), proxyheader.ALPN)

func headerFormat(b Backend) proxyheader.Format {
	format := proxyheader.Format{Version: b.ProxyVersion, MaxBytes: b.MaxHeaderBytes}
	for _, name := range b.ProxyTLVs {
		format.TLVs = append(format.TLVs, proxyheader.TLV(name))
	}
	return format
}

// identity is what EHLO says before TLS: what the backend said last. That of a
// backend that was not heard yet is short and true: where TLS is required, all
// commands are ours to answer, in any group.
func (s *service) identity() starttls.Identity {
	var identity starttls.Identity
	if checked, ok := s.backend.(interface{ Facts() any }); ok {
		if found, ok := checked.Facts().(*probed); ok {
			identity = found.Identity
		}
	}
	if !s.AsBackend {
		identity.Hostname = s.Hostname
	}
	if s.STARTTLS == starttls.Required && !slices.Contains(identity.Keywords, "PIPELINING") {
		identity.Keywords = append([]string{"PIPELINING"}, identity.Keywords...)
	}
	if s.Backend.TraceHeader {
		identity = identity.WithoutChunking()
	}
	return identity
}

// tlsAvailable tells whether STARTTLS is worth a try; if not, it gets 454.
func (s *service) tlsAvailable() bool {
	if s.Certificates.Usable() {
		return true
	}
	s.metrics.STARTTLS(metrics.STARTTLSUnavailable)
	return false
}

// count gives the service its metrics, once it is sure to be served.
func (s *service) count(m *Metrics) {
	s.backendMetrics = m.Backend(s.Backend.Name)
	s.metrics = m.Listener(s.Name, s.backendMetrics)
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// newServices makes every listener of a configuration ready.
func newServices(listeners []Listener) ([]*service, error) {
	var services []*service
	var errs []error
	for _, l := range listeners {
		s, err := newService(l)
		errs = append(errs, err)
		services = append(services, s)
	}
	if len(listeners) == 0 {
		errs = append(errs, errors.New("no listener"))
	}
	return services, errors.Join(errs...)
}
