package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
)

// headerTimeout bounds the wait for the PROXY header. A load balancer sends it
// with its first packet; the specification wants receivers to wait for 3
// seconds at least, so that one can be sent again.
const headerTimeout = 5 * time.Second

// errNoClient ends a session of the load balancer's own that wants a backend.
// The specification would have us take it for a client with the address of the
// load balancer; but backends often relay for such addresses, and UNKNOWN is
// also what a load balancer says of a client whose address it does not know.
var errNoClient = errors.New("the PROXY header tells of no client but the load balancer")

// behindBalancer tells whether clients come with a PROXY header.
func (s *service) behindBalancer() bool { return len(s.TrustedProxies) > 0 }

// trusts tells whether the header of a peer is believed.
func (s *service) trusts(peer netip.Addr) bool {
	peer = peer.WithZone("")
	return slices.ContainsFunc(s.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// introduce reads the PROXY header, and admits the client of whom it tells. It
// is done by the session and not by who accepts, whom a silent load balancer
// would keep from others.
func (s *session) introduce() *ending {
	if err := s.conn.SetReadDeadline(time.Now().Add(headerTimeout)); err != nil {
		return &ending{metrics.SessionPreTLS, fmt.Errorf("before the PROXY header: %w", err)}
	}
	ends, err := proxyheader.Read(s.conn)
	if err != nil {
		return s.noHeader(err)
	}
	_ = s.conn.SetReadDeadline(time.Time{}) // a connection that is gone shows in what follows
	s.balancer = s.client
	if ends.Own() || ends.Client == s.client { // the latter in version 1, of HAProxy's health checks
		s.own = true
		return nil
	}
	s.client, s.local = ends.Client, ends.Local
	r := refusedDraining
	if s.srv.draining.Err() == nil {
		r = s.admitClient()
	}
	if r != nil {
		s.turnAway(r)
		return &ending{metrics.SessionRefused, r}
	}
	return nil
}

// noHeader ends a session without a header that can be read. Nothing is
// replied: what else the peer may speak is not guessed.
func (s *session) noHeader(err error) *ending {
	reason := metrics.RejectedHeaderMalformed
	switch {
	case s.srv.killed.Err() != nil:
		return &ending{metrics.SessionDrained, errCut}
	case isTimeout(err):
		reason, err = metrics.RejectedHeaderTimeout, fmt.Errorf("no PROXY header within %v: does the load balancer send one when it connects?", headerTimeout)
	case errors.Is(err, proxyheader.ErrMissing):
		reason, err = metrics.RejectedHeaderMissing, fmt.Errorf("%w: does the load balancer send one to this port?", err)
	case !errors.Is(err, proxyheader.ErrMalformed): // closed or reset, as health checks do
		return &ending{metrics.SessionPreTLS, fmt.Errorf("before the PROXY header: %w", err)}
	}
	s.metrics.ConnectionRejected(reason)
	s.conn.Close() // there is no reply that a reset could take away
	return &ending{metrics.SessionRefused, err}
}

// noClient ends a session of the load balancer's own that wants a backend.
func (s *session) noClient() *ending {
	s.metrics.ConnectionRejected(metrics.RejectedNoClient)
	s.answerFirst(s.reply("421 4.7.0 %s the load balancer tells of no client (%s)"))
	return &ending{metrics.SessionRefused, errNoClient}
}

// warnUntrusted says from time to time that peers are refused: most often a
// load balancer's range is missing in the configuration.
func (s *session) warnUntrusted() {
	if refused := s.srv.foreign.happened(untrustedEvery); refused > 0 {
		s.srv.log.Warn("connections are refused whose address proxy_protocol.trusted does not have",
			"listener", s.Name, "peer", s.client.Addr().String(), "refused", refused)
	}
}

// checksHealth tells whether a session of the load balancer's own ended as a
// health check does, which wants to know no more than that we are there.
func (s *session) checksHealth(err error) bool {
	return s.own && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
}
