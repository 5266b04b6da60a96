package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// way is how a client comes.
type way struct {
	port  port
	name  string // server name
	tls12 bool
	group tls.CurveID
	cache *tickets // nil: a full handshake each time
}

func (w way) config() *tls.Config {
	version, groups := uint16(tls.VersionTLS13), []tls.CurveID{w.group}
	if w.tls12 {
		// The list says there which certificates are taken, too.
		version, groups = tls.VersionTLS12, append(groups, tls.CurveP256)
	}
	config := &tls.Config{ServerName: w.name, InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CurvePreferences: groups}
	if w.cache != nil {
		config.ClientSessionCache = w.cache
	}
	return config
}

// patience is what a client has for all of its session.
const patience = time.Minute

// session is a client's connection at work.
type session struct {
	conn *tls.Conn
	in   *bufio.Reader
}

// open goes up to the reply to EHLO under TLS. It returns also the time from
// the connection to the greeting under TLS, which with STARTTLS does not come,
// or to the end of the handshake there.
func (w way) open(address string) (*session, time.Duration, error) {
	began := time.Now()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		return nil, 0, err
	}
	_ = raw.SetDeadline(time.Now().Add(patience))
	s := &session{in: bufio.NewReaderSize(raw, 1024)}
	fail := func(err error) (*session, time.Duration, error) {
		_ = raw.Close()
		return nil, 0, err
	}
	if w.port == withTLS {
		plain := dialogue{raw, s.in}
		if err := plain.expect("220"); err != nil {
			return fail(err)
		}
		if err := plain.command("EHLO client.example", "250"); err != nil {
			return fail(err)
		}
		if err := plain.command("STARTTLS", "220"); err != nil {
			return fail(err)
		}
	}
	s.conn = tls.Client(raw, w.config())
	if err := s.conn.Handshake(); err != nil {
		return fail(err)
	}
	s.in.Reset(s.conn)
	if w.port != withTLS {
		if err := s.dialogue().expect("220"); err != nil {
			return fail(err)
		}
	}
	greeted := time.Since(began)
	if err := s.dialogue().command("EHLO client.example", "250"); err != nil {
		return fail(err)
	}
	if w.cache != nil && !s.conn.ConnectionState().DidResume && w.cache.full() > 2*clients {
		return fail(errors.New("the session did not resume"))
	}
	return s, greeted, nil
}

func (s *session) dialogue() dialogue { return dialogue{s.conn, s.in} }

// end says QUIT and waits for the end.
func (s *session) end() error {
	defer s.conn.Close()
	return s.dialogue().command("QUIT", "221")
}

// dialogue is one that may be under TLS or not.
type dialogue struct {
	out io.Writer
	in  *bufio.Reader
}

func (d dialogue) command(line, code string) error {
	if _, err := io.WriteString(d.out, line+"\r\n"); err != nil {
		return err
	}
	if err := d.expect(code); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}

// expect reads a reply to its last line.
func (d dialogue) expect(code string) error {
	for {
		line, err := d.in.ReadString('\n')
		if err != nil {
			return err
		}
		if !strings.HasPrefix(line, code) || len(line) < 5 {
			return fmt.Errorf("reply %q, want %s", line, code)
		}
		if line[3] == ' ' {
			return nil
		}
	}
}

// clients is how many come at once: enough to keep two cores busy together
// with the server, and no crowd.
const clients = 4

// sessions does n of them, each from the connection to QUIT.
func (w way) sessions(address string, n int) error {
	failed := make([]error, clients)
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := c; i < n && failed[c] == nil; i += clients {
				var s *session
				if s, _, failed[c] = w.open(address); failed[c] == nil {
					failed[c] = s.end()
				}
			}
		})
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// tickets is a cache of one server's sessions of which each is used once, as
// mail clients and RFC 8446 appendix C.4 want it.
type tickets struct {
	mu     sync.Mutex
	kept   []*tls.ClientSessionState
	misses int
}

func (t *tickets) Get(string) (*tls.ClientSessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == 0 {
		t.misses++
		return nil, false
	}
	last := t.kept[len(t.kept)-1]
	t.kept = t.kept[:len(t.kept)-1]
	return last, true
}

func (t *tickets) Put(_ string, state *tls.ClientSessionState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if state != nil && len(t.kept) < 64 {
		t.kept = append(t.kept, state)
	}
}

// full is how many sessions found no ticket: at most the first of each of the
// clients that come at once, and a few before their tickets arrive.
func (t *tickets) full() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.misses
}
