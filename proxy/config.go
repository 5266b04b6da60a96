package proxy

import (
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

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
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
	// Open hands the sockets over that clients come to, in place of binding
	// Address, which then is only a name. Other processes may have them, too.
	Open func() ([]net.Listener, error)
	Mode Mode
	// TrustedProxies are the load balancers, each of whose connections begins
	// with a PROXY header that tells who the client is; IPv4 is not written as
	// IPv6. Others can not connect then. Empty is no PROXY protocol.
	TrustedProxies []netip.Prefix
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
	// Backend gets the clients that no route leads elsewhere, and those without
	// TLS. It is also the one that is greeted for before TLS.
	Backend Backend
	// Routes lead to other backends, by server name.
	Routes []Route
}

// Timeouts bound the phases of a session. 0 means the default.
type Timeouts struct {
	PlainIdle time.Duration // for each command before STARTTLS
	Greeting  time.Duration // for the backend's greeting
	RelayIdle time.Duration // without a byte in either direction
	HalfClose time.Duration // after the client ended its stream, when no reply is owed
}

// service is a Listener made ready. It never changes, so that a session keeps
// the one with which it began.
type service struct {
	Listener
	tls          *identities
	plain        *starttls.Server
	destinations []*destination // the listener's backend first, and each other once
	routes       routes
	metrics      *metrics.Listener
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
	}
	for _, trusted := range l.TrustedProxies {
		if !trusted.IsValid() || trusted.Bits() == 0 || trusted.Addr().Is4In6() {
			return fmt.Errorf("listener %s: PROXY headers can not be trusted from %v", l.Name, trusted)
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
	s := &service{Listener: l}
	if err := s.route(); err != nil {
		return nil, fmt.Errorf("listener %s: %w", l.Name, err)
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

// identity is what EHLO says before TLS: what the backend said last. That of a
// backend that was not heard yet is short and true: where TLS is required, all
// commands are ours to answer, in any group.
func (s *service) identity() starttls.Identity {
	var identity starttls.Identity
	if found, ok := s.destinations[0].pool.Facts().(*probed); ok {
		identity = found.Identity
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
	var backends []*metrics.Backend
	for _, d := range s.destinations {
		d.metrics = m.Backend(d.Name)
		backends = append(backends, d.metrics)
	}
	s.metrics = m.Listener(s.Name, backends...)
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
