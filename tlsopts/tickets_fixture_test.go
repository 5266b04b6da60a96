package tlsopts_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

var bothVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// clock is moved by hand.
type clock struct{ nanoseconds atomic.Int64 }

// newClock starts at the beginning of a time step of up to a day.
func newClock() *clock {
	c := &clock{}
	c.nanoseconds.Store(time.Now().Truncate(24 * time.Hour).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanoseconds.Load()) }
func (c *clock) advance(d time.Duration) { c.nanoseconds.Add(int64(d)) }

const (
	secretOne = "one-5tT0vZbQm8h3yqk2Jx7rWc9LdPfGs4NaEu6BiHoKzVlYM1"
	secretTwo = "two-Xq8ZrT1mVb4Kp7Jw0Ls9Ny2Hd5Gf3CeUaQiOoRkMtBvYzEx"
)

func secretFile(t testing.TB, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tickets")
	noErr(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return file
}

func openTickets(t testing.TB, o tlsopts.TicketOptions) *tlsopts.Tickets {
	t.Helper()
	if o.Poll == 0 {
		o.Poll = -1
	}
	tickets, err := tlsopts.OpenTickets(o)
	noErr(t, err)
	t.Cleanup(func() { noErr(t, tickets.Close()) })
	return tickets
}

// site is a server with a folder for some names and a default for the rest.
type site struct {
	clock   *clock
	context string
	auth    tlsopts.ClientAuth
	folders []string // the first is the default
}

var siteCertificate = struct {
	pair atomic.Pointer[tls.Certificate]
}{}

// config is the outer configuration of a site, as a proxy makes it.
func (s site) config(t testing.TB, tickets *tlsopts.Tickets) *tls.Config {
	t.Helper()
	pair := siteCertificate.pair.Load()
	if pair == nil {
		pair = pairOf(t, "P-256")
		siteCertificate.pair.Store(pair)
	}
	inner, bound := make(map[string]*tls.Config), make(map[string]*tlsopts.BoundTickets)
	for _, folder := range s.folders {
		config, err := tlsopts.Options{}.Config()
		noErr(t, err)
		config.Time = s.clock.now
		config.Certificates = []tls.Certificate{*pair}
		noErr(t, s.auth.Apply(config))
		if tickets != nil {
			bound[folder] = tickets.Bind(config, tlsopts.Binding{ServerName: folder, Context: s.context, ClientAuth: s.auth})
		}
		inner[folder] = config
	}
	outer, err := tlsopts.Options{}.Config()
	noErr(t, err)
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		folder := strings.ToLower(hello.ServerName)
		if inner[folder] == nil {
			folder = s.folders[0]
		}
		if tickets == nil {
			return inner[folder], nil
		}
		return bound[folder].ForClient(inner[folder], hello), nil
	}
	return outer
}

// pocket is a client's only place for a ticket, whatever the server's name.
type pocket struct {
	state *tls.ClientSessionState
	got   int
	keep  bool // do not take newer ones
}

func (p *pocket) Get(string) (*tls.ClientSessionState, bool) { return p.state, p.state != nil }

func (p *pocket) Put(_ string, state *tls.ClientSessionState) {
	if state == nil { // the old one was not good
		return
	}
	p.got++
	if !p.keep {
		p.state = state
	}
}

// frozen is a copy that stays as it is.
func (p *pocket) frozen() *pocket { return &pocket{state: p.state, keep: true} }

// visitor is a client.
type visitor struct {
	name    string
	version uint16
	clock   *clock
	cert    *tls.Certificate
}

// visit makes a connection and tells whether it was resumed. Both sides have
// to agree.
func (v visitor) visit(t testing.TB, server *tls.Config, p *pocket) (resumed bool) {
	t.Helper()
	_, resumed = v.visitState(t, server, p)
	return resumed
}

func (v visitor) visitState(t testing.TB, server *tls.Config, p *pocket) (tls.ConnectionState, bool) {
	t.Helper()
	client := &tls.Config{ServerName: v.name, MinVersion: v.version, MaxVersion: v.version, InsecureSkipVerify: true, ClientSessionCache: p}
	if v.clock != nil {
		client.Time = v.clock.now
	}
	if v.cert != nil {
		client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return v.cert, nil }
	}
	served, got, serverErr, err := converse(t, server, client)
	if err != nil || serverErr != nil {
		t.Fatalf("%s, %q: client: %v, server: %v", tls.VersionName(v.version), v.name, err, serverErr)
	}
	if served.DidResume != got.DidResume || got.Version != v.version {
		t.Fatalf("%s, %q: resumed %v and %v", tls.VersionName(got.Version), v.name, served.DidResume, got.DidResume)
	}
	return served, served.DidResume
}
