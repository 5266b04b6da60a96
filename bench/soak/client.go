package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// patience is the deadline of a whole session. One that runs into it hangs,
// which is a violation.
const patience = 60 * time.Second

// way is how a client comes to its session.
type way struct {
	name  string
	port  int    // of the ports of the proxy
	plain bool   // without TLS
	sni   string // "" for none
	named string // whom the certificate must name; "" for anyone
	max   uint16 // TLS version
	again bool   // it resumes its sessions
}

// The ports of the proxy.
const (
	submissions = iota
	submission
	mx
)

// byDefault is the domain of the default certificate.
const byDefault = "mail.soak.example"

var ways = []way{
	{name: "implicit, TLS 1.3, ECDSA", port: submissions, sni: "ecdsa.soak.example", named: "ecdsa.soak.example"},
	{name: "implicit, TLS 1.2, RSA", port: submissions, sni: "rsa.soak.example", named: "rsa.soak.example", max: tls.VersionTLS12},
	{name: "implicit, resumed", port: submissions, sni: "ecdsa.soak.example", named: "ecdsa.soak.example", again: true},
	{name: "implicit, TLS 1.2, resumed", port: submissions, sni: "rsa.soak.example", named: "rsa.soak.example", max: tls.VersionTLS12, again: true},
	{name: "implicit, wildcard", port: submissions, sni: "any.wild.soak.example", named: "any.wild.soak.example"},
	{name: "implicit, unknown name", port: submissions, sni: "unknown.example", named: byDefault},
	{name: "implicit, no name", port: submissions, named: byDefault},
	{name: "implicit, folder that comes and goes", port: submissions, sni: "new.soak.example"},
	{name: "STARTTLS, TLS 1.3", port: submission, sni: "rsa.soak.example", named: "rsa.soak.example"},
	{name: "STARTTLS, TLS 1.2", port: submission, sni: "ecdsa.soak.example", named: "ecdsa.soak.example", max: tls.VersionTLS12},
	{name: "STARTTLS, resumed", port: submission, sni: "ecdsa.soak.example", named: "ecdsa.soak.example", again: true},
	{name: "optional STARTTLS", port: mx, sni: "any.wild.soak.example", named: "any.wild.soak.example"},
	{name: "optional, plain text", port: mx, plain: true},
}

// act is what a client does in its session.
type act struct {
	name  string
	share int // of a hundred sessions
	do    func(*session) error
}

var acts = []act{
	{"DATA", 40, (*session).sendData},
	{"BDAT", 30, (*session).sendChunks},
	{"half-close", 10, (*session).halfClose},
	{"abandoned", 12, (*session).abandon},
	{"slow reader", 3, (*session).readSlowly},
	{"no mail", 5, (*session).quit},
}

// session is one client with its session.
type session struct {
	way
	w       *world
	conn    net.Conn
	in      *bufio.Reader
	resumed bool
	reached bool // the relay: what fails from then on may be a backend that was killed
}

// step is an error with where it came up.
type step struct {
	at  string
	err error
}

func (s *step) Error() string { return s.at + ": " + s.err.Error() }

// open connects and is under TLS, where that is wanted, and behind EHLO.
func (s *session) open(cache tls.ClientSessionCache) error {
	from := net.IPv4(127, 2, byte(rand.N(4)), byte(1+rand.N(250)))
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: from}}
	conn, err := dialer.Dial("tcp", s.w.proxy.ports[s.port])
	if err != nil {
		return &step{"connecting", err}
	}
	s.conn, s.in = conn, bufio.NewReader(conn)
	_ = conn.SetDeadline(time.Now().Add(patience))
	if s.port != submissions {
		if err := s.expect("220"); err != nil {
			return &step{"greeting", err}
		}
		if err := s.command("EHLO client.example", "250"); err != nil {
			return &step{"EHLO before TLS", err}
		}
	}
	if s.plain {
		s.reached = true
		return nil
	}
	if s.port != submissions {
		if err := s.command("STARTTLS", "220"); err != nil {
			return &step{"STARTTLS", err}
		}
	}
	if err := s.secure(cache); err != nil {
		return &step{"handshake", err}
	}
	s.reached = true
	if s.port == submissions {
		if err := s.expect("220"); err != nil {
			return &step{"backend's greeting", err}
		}
	}
	if err := s.command("EHLO client.example", "250"); err != nil {
		return &step{"EHLO", err}
	}
	return nil
}

// secure does the handshake, and checks the certificate.
func (s *session) secure(cache tls.ClientSessionCache) error {
	config := &tls.Config{ServerName: s.sni, RootCAs: s.w.proxy.ca.Pool(), MaxVersion: s.max, InsecureSkipVerify: s.named != s.sni || s.sni == ""}
	if s.again {
		config.ClientSessionCache = cache
	}
	conn := tls.Client(s.conn, config)
	if err := conn.Handshake(); err != nil {
		return err
	}
	state := conn.ConnectionState()
	s.resumed = state.DidResume
	s.conn, s.in = conn, bufio.NewReader(conn)
	if s.named == "" {
		return nil
	}
	return state.PeerCertificates[0].VerifyHostname(s.named)
}

func (s *session) command(line, code string) error {
	if _, err := io.WriteString(s.conn, line+"\r\n"); err != nil {
		return err
	}
	return s.expect(code)
}

// errReply is a reply that was not wanted.
type errReply struct{ got, want string }

func (e errReply) Error() string { return fmt.Sprintf("reply %q, want %s", e.got, e.want) }

// expect reads a whole reply.
func (s *session) expect(code string) error {
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return err
		}
		if len(line) < 5 || !strings.HasPrefix(line, code) {
			return errReply{strings.TrimSpace(line), code}
		}
		if line[3] == ' ' {
			return nil
		}
	}
}

// body is text of which each message has a part.
var body = []byte(strings.Repeat("The quick brown fox jumps over the lazy dog, and a line has eighty octets all.\r\n", 1<<20/80))

// compose makes a message of 1 kB to 1 MB, most of them small.
func (s *session) compose() (id uint64, text []byte) {
	lines := []int{12, 12, 12, 12, 120, 120, 1200, 1200}[rand.N(8)]
	if rand.N(100) == 0 {
		lines = len(body) / 80
	}
	id = s.w.ledger.begin()
	text = fmt.Appendf(nil, idLine+"%d\r\n\r\n", id)
	text = append(text, body[:80*(1+rand.N(lines))]...)
	s.w.ledger.sends(id, crc64.Checksum(text, table))
	return id, text
}

const mail, rcpt = "MAIL FROM:<a@client.example>", "RCPT TO:<b@soak.example>"

// begin goes up to the message.
func (s *session) begin(last string, code string) error {
	if rand.N(2) == 0 { // as a group (RFC 2920)
		if _, err := io.WriteString(s.conn, mail+"\r\n"+rcpt+"\r\n"+last); err != nil {
			return err
		}
		if err := s.expect("250"); err != nil {
			return err
		}
		if err := s.expect("250"); err != nil || code == "" {
			return err
		}
		return s.expect(code)
	}
	if err := s.command(mail, "250"); err != nil {
		return err
	}
	if err := s.command(rcpt, "250"); err != nil {
		return err
	}
	if _, err := io.WriteString(s.conn, last); err != nil || code == "" {
		return err
	}
	return s.expect(code)
}

// sent reads the reply to the end of a message.
func (s *session) sent(id uint64, size int) error {
	if err := s.expect("250"); err != nil {
		return err
	}
	s.w.ledger.accepts(id)
	s.w.bytes.Add(int64(size))
	return nil
}

// sendData sends up to three messages.
func (s *session) sendData() error {
	for range 1 + rand.N(3) {
		if err := s.oneData(); err != nil {
			return err
		}
	}
	return s.quit()
}

func (s *session) oneData() error {
	if err := s.begin("DATA\r\n", "354"); err != nil {
		return err
	}
	id, text := s.compose()
	s.w.ledger.finishes(id)
	if _, err := s.conn.Write(append(text, ".\r\n"...)); err != nil {
		return err
	}
	return s.sent(id, len(text))
}

// sendChunks sends a message in up to four, without waiting for a reply.
func (s *session) sendChunks() error {
	id, text := s.compose()
	var all []byte
	chunks := 0
	for size := len(text)/(1+rand.N(3)) + 1; len(text) > size; chunks++ {
		all = fmt.Appendf(all, "BDAT %d\r\n%s", size, text[:size])
		text = text[size:]
	}
	all = fmt.Appendf(all, "BDAT %d LAST\r\n%s", len(text), text)
	if err := s.begin("", ""); err != nil {
		return err
	}
	s.w.ledger.finishes(id)
	if _, err := s.conn.Write(all); err != nil {
		return err
	}
	for range chunks {
		if err := s.expect("250"); err != nil {
			return err
		}
	}
	if err := s.sent(id, len(all)); err != nil {
		return err
	}
	return s.quit()
}

// halfClose ends its stream behind the message, and waits for the reply.
func (s *session) halfClose() error {
	if err := s.begin("DATA\r\n", "354"); err != nil {
		return err
	}
	id, text := s.compose()
	s.w.ledger.finishes(id)
	if _, err := s.conn.Write(append(text, ".\r\n"...)); err != nil {
		return err
	}
	if err := s.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err
	}
	if err := s.sent(id, len(text)); err != nil {
		return err
	}
	return s.end()
}

// abandon leaves within a message: with a goodbye, with a FIN or with a reset,
// also between two chunks and with all but the last line.
func (s *session) abandon() error {
	id, text := s.compose()
	_ = id // it is not finished
	said := text[:1+rand.N(len(text))]
	switch rand.N(3) {
	case 0:
		if err := s.begin("", ""); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(s.conn, "BDAT %d\r\n%s", len(text), text); err != nil {
			return err
		}
		said = nil
	case 1:
		said = append(text, '.', '\r')
		fallthrough
	default:
		if err := s.begin("DATA\r\n", "354"); err != nil {
			return err
		}
	}
	if _, err := s.conn.Write(said); err != nil {
		return err
	}
	raw := s.conn
	if secured, ok := s.conn.(*tls.Conn); ok {
		raw = secured.NetConn()
	}
	switch rand.N(3) {
	case 0:
		return s.conn.Close()
	case 1:
		_ = raw.(*net.TCPConn).SetLinger(0)
	}
	return raw.Close()
}

// readSlowly takes a long reply in small bites.
func (s *session) readSlowly() error {
	if _, err := io.WriteString(s.conn, "VRFY everybody\r\n"); err != nil {
		return err
	}
	bite := make([]byte, 2000)
	want := len(nameLine)*nameLines + len("250 that is all\r\n")
	for got := 0; got < want; {
		n, err := s.in.Read(bite[:min(len(bite), want-got)])
		if err != nil {
			return err
		}
		got += n
		time.Sleep(10 * time.Millisecond)
	}
	return s.quit()
}

// quit ends the session.
func (s *session) quit() error {
	if err := s.command("QUIT", "221"); err != nil {
		return err
	}
	return s.end()
}

// end expects the end of the stream.
func (s *session) end() error {
	rest, err := io.ReadAll(s.in)
	if err == nil && len(rest) > 0 {
		err = errors.New("more came behind the last reply")
	}
	return err
}
