package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// Backend is the SMTP server behind a listener.
type Backend struct {
	Name           string        // in logs and metrics
	Addresses      []string      // host:port, where each address of a host name counts, or unix:/path
	ConnectTimeout time.Duration // of each address; 0 means 10 seconds
	// ClientInfo is how the backend learns who the client is.
	ClientInfo     ClientInfo
	ProxyTLVs      []string // of ProxyV2, none by default: ssl, authority, unique_id, crc32c, alpn
	MaxHeaderBytes int      // of ProxyV2, at least 128; 0 means 232
	// TLS is for a backend that is reached over a network; the zero value is
	// plain text.
	TLS BackendTLS
	// TraceHeader puts a Received header before each message, for backends that
	// do not pass on what the PROXY header tells of TLS. BDAT is not offered then.
	TraceHeader bool
	Balance     Balance     // the zero value is LeastConnections
	HealthCheck HealthCheck // the zero value is every 10 seconds
}

// ClientInfo is how a backend learns who the client is.
type ClientInfo string

// The ways to tell it. There is no default: a backend that does not learn it
// takes each client for the proxy, and may relay for it.
const (
	ProxyV2 ClientInfo = "proxy-v2"
	ProxyV1 ClientInfo = "proxy-v1"
	// XCLIENT is the command of that name after Postfix's XCLIENT_README. It
	// costs two round trips in each session, and tells nothing of TLS.
	XCLIENT ClientInfo = "xclient"
	// NoClientInfo is for backends that know none of the others, and relay for
	// nobody without AUTH, not even for the proxy's address.
	NoClientInfo ClientInfo = "none"
)

var clientInfos = []ClientInfo{ProxyV2, ProxyV1, XCLIENT, NoClientInfo}

// BackendTLS is TLS to a backend, 1.2 or later.
type BackendTLS struct {
	Mode BackendTLSMode
	// Auth says which certificate is accepted of the backend. Its ServerName
	// counts for all addresses.
	Auth        tlsopts.ServerAuth
	Certificate *tls.Certificate // our own, for backends that ask for one; may be nil
}

// BackendTLSMode is how TLS to a backend begins.
type BackendTLSMode string

// The modes. PlainText is the zero value.
const (
	PlainText       BackendTLSMode = ""
	BackendImplicit BackendTLSMode = "implicit" // behind the PROXY header
	BackendSTARTTLS BackendTLSMode = "starttls" // behind the greeting; a backend that does not offer it gets no client
)

var backendTLSModes = []BackendTLSMode{PlainText, BackendImplicit, BackendSTARTTLS}

// Balance is how clients are shared out among the addresses that are up.
type Balance = backend.Balance

// The ways to share clients out.
const (
	LeastConnections = backend.LeastConnections // the address with the fewest open connections
	RoundRobin       = backend.RoundRobin       // one after the other
	ClientHash       = backend.ClientHash       // the same for each client IP address, IPv6 by its /64
)

var balances = []Balance{"", LeastConnections, RoundRobin, ClientHash}

// HealthCheck says how often each address is probed as by [CheckBackend], and
// what becomes of it. Zero fields have the default; a negative Interval is no
// health checks.
type HealthCheck = backend.HealthCheck

// proxyTLVs are all that can be sent.
var proxyTLVs = append(slices.Clone(proxyheader.DefaultTLVs), proxyheader.ALPN)

// check finds what would fail, or do harm, once clients come.
func (b Backend) check() error {
	switch {
	case !slices.Contains(clientInfos, b.ClientInfo):
		return fmt.Errorf("%q is no way to tell who the client is: want one of %q", b.ClientInfo, clientInfos)
	case len(b.Addresses) == 0:
		return fmt.Errorf("no address")
	case b.ClientInfo == ProxyV2 && b.MaxHeaderBytes != 0 && b.MaxHeaderBytes < proxyheader.MinMaxBytes:
		return fmt.Errorf("a PROXY header of %d bytes can not tell of TLS: want at least %d", b.MaxHeaderBytes, proxyheader.MinMaxBytes)
	case !slices.Contains(backendTLSModes, b.TLS.Mode):
		return fmt.Errorf("%q is no mode of TLS: want one of %q", b.TLS.Mode, backendTLSModes)
	case !slices.Contains(balances, b.Balance):
		return fmt.Errorf("%q is no way to balance: want one of %q", b.Balance, balances[1:])
	}
	for _, name := range b.ProxyTLVs {
		if !slices.Contains(proxyTLVs, proxyheader.TLV(name)) {
			return fmt.Errorf("%q is no TLV of the PROXY protocol: want some of %q", name, proxyTLVs)
		}
	}
	return nil
}

// same reports whether two say the same, so that a pool in service can stay.
func (b Backend) same(other Backend) bool {
	mine, theirs := b.TLS, other.TLS
	b.TLS, other.TLS = BackendTLS{}, BackendTLS{}
	return reflect.DeepEqual(b, other) && mine.Mode == theirs.Mode &&
		mine.Auth.ServerName == theirs.Auth.ServerName && slices.Equal(mine.Auth.Pins, theirs.Auth.Pins) &&
		mine.Auth.CA.Equal(theirs.Auth.CA) && sameCertificate(mine.Certificate, theirs.Certificate)
}

// sameCertificate compares the chains; the key belongs to the first of them.
func sameCertificate(a, b *tls.Certificate) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

// dialer opens the connections to a backend, each for a client; see
// backend.Pool.
type dialer interface {
	Dial(ctx context.Context, client netip.Addr, begin func(net.Conn) error) (net.Conn, error)
	// Facts is a *probed of the newest good health check, nil before the first.
	Facts() any
}

// destination is a backend as the sessions of a service come to it.
type destination struct {
	Backend
	opening *opening
	pool    dialer           // given by usePools
	metrics *metrics.Backend // given by service.count
}

func newDestination(b Backend, hostname string) (*destination, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("backend %s: %w", b.Name, err)
	}
	o, err := newOpening(b, hostname)
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", b.Name, err)
	}
	return &destination{Backend: b, opening: o}, nil
}
