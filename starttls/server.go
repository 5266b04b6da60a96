package starttls

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// Why the plain phase ended before TLS, besides the errors of the connection
// itself. The client has its last reply, as far as it can have one, when
// Negotiate returns one of these.
var (
	// ErrQuit: the client said QUIT and got 221.
	ErrQuit = errors.New("client quit before STARTTLS")
	// ErrInjection: bytes came behind STARTTLS in the same flight, the attack
	// of CVE-2011-0411. Nothing of them was looked at; the client got 503.
	ErrInjection = errors.New("client sent bytes behind STARTTLS")
	// ErrTLSRecord: the client began with a TLS record; it wants implicit TLS
	// on another port. It got no reply, because it could not read one.
	ErrTLSRecord = errors.New("client started TLS without STARTTLS")
	// ErrEarlyTalker: the client sent bytes before the greeting.
	ErrEarlyTalker = errors.New("client talked before the greeting")
	// ErrHTTP: the client spoke HTTP, as a browser does that was lured here,
	// and got 554.
	ErrHTTP = errors.New("client spoke HTTP")
	// ErrTooMuch: the client sent more commands or bytes than the plain phase
	// needs, and got 421.
	ErrTooMuch = errors.New("client sent too many commands before STARTTLS")
	// ErrTooManyErrors: too many of the client's commands were refused; it
	// got 421.
	ErrTooManyErrors = errors.New("client made too many errors before STARTTLS")
	// ErrShutdown: the context ended. The client got 421, or, if it had the
	// 220 to STARTTLS before, nothing more.
	ErrShutdown = errors.New("shut down before STARTTLS")
)

// Defaults of Server.
const (
	DefaultIdleTimeout = 5 * time.Minute // RFC 5321 section 4.5.3.2.7
	DefaultMaxCommands = 100
	DefaultMaxErrors   = 20
)

// Policy is what becomes of a client that does not ask for TLS. The zero value
// is Required.
type Policy uint8

const (
	// Required: no mail without TLS, as on a port for submission (RFC 8314).
	Required Policy = iota
	// Optional: the client may go on in plain text, as on port 25, where TLS
	// must not be required (RFC 3207 section 4).
	Optional
)

// String returns the word that a configuration has for the policy.
func (p Policy) String() string {
	switch p {
	case Required:
		return "required"
	case Optional:
		return "optional"
	}
	return fmt.Sprintf("starttls.Policy(%d)", uint8(p))
}

// Server performs the plain phase of sessions. It answers EHLO, HELO, NOOP,
// RSET, HELP, QUIT and STARTTLS itself. Any other command gets 530 where TLS is
// required (RFC 3207 section 4), or 500 if it is none of SMTP; where TLS is
// optional it ends the plain phase, but for AUTH, which gets 530, and XCLIENT
// and XFORWARD, which get 502. Pipelined commands get their replies in order
// (RFC 2920). A Server is not changed once it is in use; any number of sessions
// may share it.
type Server struct {
	// Policy tells whether a client may go on without TLS.
	Policy Policy
	// Hostname stands in the greeting and in the replies to EHLO, HELO and
	// QUIT. Required: a domain name without spaces.
	Hostname string
	// Keywords are the EHLO keywords offered besides STARTTLS, each with its
	// parameters. What is not for clients before TLS is never offered: AUTH,
	// REQUIRETLS, XCLIENT, XFORWARD, a second STARTTLS, and what would not be
	// one line. PIPELINING is true of the plain phase; with Optional it must be
	// true of the backend as well, which gets the rest of the client's group.
	Keywords []string
	// Identity, unless nil, gives each session its keywords, and its host name
	// where that is not empty, in place of the two fields above. It is called
	// once at the start of Negotiate, from its goroutine, by many sessions at a
	// time: an atomic pointer to what a probe read last does.
	Identity func() Identity
	// GreetDelay is how long the greeting waits for a client that talks before
	// it, as spam software does and RFC 5321 section 3.1 forbids: it gets 554 in
	// place of the greeting. A mail server behind the proxy can not make this
	// test itself any more. 0 greets at once.
	GreetDelay time.Duration
	// IdleTimeout is how long the client may take for each command. The
	// whole phase may take twice that. 0 means DefaultIdleTimeout, less than
	// 0 no limit.
	IdleTimeout time.Duration
	// MaxCommands is how many commands may be answered, and MaxErrors how many
	// of them may be refused, without STARTTLS: the last one's reply is
	// followed by 421. 0 means DefaultMaxCommands and DefaultMaxErrors, less
	// than 0 no limit. All commands together may have 64 KiB.
	MaxCommands int
	MaxErrors   int
	// TLSAvailable tells whether a handshake can succeed now; if not,
	// STARTTLS gets 454 and the session goes on. nil means always. It is
	// called from the goroutine of Negotiate, and in plain text from that of
	// Filter.CopyCommands.
	TLSAvailable func() bool
}

// Negotiate carries conn from the greeting to the end of the plain phase.
//
// It returns nil and nil behind the 220 that answers STARTTLS: the next byte on
// conn belongs to the TLS handshake. No byte past the STARTTLS line was read.
// Where TLS is optional it returns a Plaintext instead when the client goes on
// without: its next command is for a backend. All earlier ones have their
// replies.
//
// Any error means that the session is over: the last reply has been sent, and
// the caller closes conn, better after a half-close, because unread bytes of
// the client's would make the system take the last reply back. The error is
// one of those above, io.EOF where the client went, os.ErrDeadlineExceeded
// after 421 where it took too long, or what else conn returned.
//
// The id stands in the greeting and in replies that refuse something, so that
// a user's report can be found in a log.
//
// When ctx ends, the client gets 421 and Negotiate returns ErrShutdown.
// Deadlines of conn are set and, without an error, cleared.
func (s *Server) Negotiate(ctx context.Context, conn net.Conn, id string) (*Plaintext, error) {
	d := &dialogue{Server: s, identity: s.identity(), ctx: ctx, conn: conn, id: id}
	if idle := s.idleTimeout(); idle > 0 {
		d.end = time.Now().Add(2 * idle)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	plaintext, err := d.run()
	if !stop() && err == nil {
		// The interrupt may hit the caller's deadline instead: end here.
		err = ErrShutdown
		if plaintext != nil { // the client waits for a reply
			err = d.bye(err)
		}
	}
	if err != nil {
		return nil, err
	}
	return plaintext, conn.SetDeadline(time.Time{})
}

// identity is what the next session presents itself as.
func (s *Server) identity() Identity {
	if s.Identity == nil {
		return Identity{Hostname: s.Hostname, Keywords: s.Keywords}
	}
	identity := s.Identity()
	if identity.Hostname == "" {
		identity.Hostname = s.Hostname
	}
	return identity
}

func (s *Server) idleTimeout() time.Duration { return orDefault(s.IdleTimeout, DefaultIdleTimeout) }
func (s *Server) maxCommands() int           { return orDefault(s.MaxCommands, DefaultMaxCommands) }
func (s *Server) maxErrors() int             { return orDefault(s.MaxErrors, DefaultMaxErrors) }

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}
