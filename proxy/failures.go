package proxy

import (
	"net/netip"
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

// keptFailures is how many failures are kept: what a person reads through.
// With texts of the greatest length they take 150 kB.
const keptFailures = 50

// failures are the newest handshakes that failed. Only those come here: a
// handshake that succeeds neither takes the lock nor allocates for it.
type failures struct {
	mu   sync.Mutex
	ring [keptFailures]Failure
	next int // where the next one goes, and the oldest is
}

func (f *failures) add(failure Failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ring[f.next] = failure
	f.next = (f.next + 1) % keptFailures
}

// Failures are the newest handshakes that failed, at most 50, the newest first.
func (srv *Server) Failures() []Failure {
	f := &srv.failures
	f.mu.Lock()
	defer f.mu.Unlock()
	var newest []Failure
	for i := range keptFailures {
		failure := f.ring[(f.next+keptFailures-1-i)%keptFailures]
		if failure.At.IsZero() {
			break
		}
		newest = append(newest, failure)
	}
	return newest
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
