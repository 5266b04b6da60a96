package proxy

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

// Failure is a TLS handshake with a client that failed. Its texts are escaped
// and cut, and fit to be shown.
type Failure struct {
	At         time.Time
	Listener   string
	Client     netip.AddrPort
	ServerName string // empty where the client sent none, or no ClientHello
	Reason     metrics.HandshakeFailure
	Alert      string // the name of the client's, where it ended the handshake by one
	Detail     string // what went wrong this time
}

const (
	// keptFailures is how many failures are kept: what a person reads through.
	// With texts of the greatest length they take some 150 kB.
	keptFailures = 50
	// keptNoise is how many are kept of those that scanners make. They have a
	// place of their own, or the next scanner would push out all others.
	keptNoise = 10
)

// failures are the newest handshakes that failed. Only those come here: a
// handshake that succeeds neither takes the lock nor allocates for it.
type failures struct {
	mu          sync.Mutex
	told, noise []Failure // oldest first
}

func (f *failures) add(failure Failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if failure.Reason.Noise() {
		f.noise = keepNewest(f.noise, failure, keptNoise)
		return
	}
	f.told = keepNewest(f.told, failure, keptFailures)
}

// keepNewest moves what it keeps, which is little, and seldom.
func keepNewest(all []Failure, failure Failure, most int) []Failure {
	if len(all) == most {
		all = all[:copy(all, all[1:])]
	}
	return append(all, failure)
}

// Failures are the newest handshakes that failed, the newest first: at most 50,
// and 10 of those that scanners and health checks make by the hundred.
func (srv *Server) Failures() []Failure {
	f := &srv.failures
	f.mu.Lock()
	all := slices.Concat(f.told, f.noise)
	f.mu.Unlock()
	slices.SortStableFunc(all, func(a, b Failure) int { return b.At.Compare(a.At) })
	return all
}

// remember keeps the failure of this session's handshake, for Server.Failures.
func (s *session) remember(failed *failedHandshake) {
	detail, alert := failed.err.Error(), ""
	if s.hello.info != nil {
		detail = s.why(failed)
	}
	if failed.alerted {
		alert = failed.alert.String()
	}
	s.srv.failures.add(Failure{
		At: time.Now(), Listener: s.Name, Client: s.client, Reason: failed.reason, Alert: alert,
		// Clones: what is cut off must not stay in memory.
		ServerName: strings.Clone(escape.Field(s.hello.serverName)),
		Detail:     strings.Clone(escape.Field(detail)),
	})
}
