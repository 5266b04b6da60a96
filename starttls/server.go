package starttls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// Why the plain phase ended before TLS, besides the errors of the connection
// itself. Negotiate has sent the last reply when it returns one of these.
var (
	// ErrQuit: the client said QUIT.
	ErrQuit = errors.New("client quit before STARTTLS")
	// ErrInjection: bytes came behind STARTTLS in the same flight, the attack
	// of CVE-2011-0411. Nothing of them was looked at.
	ErrInjection = errors.New("client sent bytes behind STARTTLS")
	// ErrTLSRecord: the client began with a TLS record; it wants implicit TLS
	// on another port.
	ErrTLSRecord = errors.New("client started TLS without STARTTLS")
	// ErrHTTP: the client spoke HTTP, as a browser does that was lured here.
	ErrHTTP = errors.New("client spoke HTTP")
	// ErrTooMuch: the client sent more commands or bytes than the plain phase
	// needs.
	ErrTooMuch = errors.New("client sent too many commands before STARTTLS")
	// ErrTooManyErrors: the client got too many 5xx replies.
	ErrTooManyErrors = errors.New("client made too many errors before STARTTLS")
	// ErrShutdown: the context ended; the client got 421.
	ErrShutdown = errors.New("shut down before STARTTLS")
)

const (
	// maxLine is the longest command accepted before TLS, CRLF included. RFC
	// 5321 section 4.5.3.1.4 asks for 512; clients with long names send more.
	maxLine = 2048
	// maxPlainBytes is all that a client may send before TLS. A client that
	// means well sends under a hundred bytes.
	maxPlainBytes = 64 << 10
	// writeTimeout bounds the write of a reply of ours, which fits any socket
	// buffer: only a client that never reads meets it.
	writeTimeout = 30 * time.Second
)

// Defaults of Server.
const (
	DefaultIdleTimeout = 5 * time.Minute // RFC 5321 section 4.5.3.2.7
	DefaultMaxCommands = 100
	DefaultMaxErrors   = 20
)

// Server performs the plain phase on a port where TLS is required. It answers
// EHLO, HELO, NOOP, RSET, HELP, QUIT and STARTTLS, and every other command
// with 530 (RFC 3207 section 4). A Server is not changed once it is in use;
// any number of sessions may share it.
type Server struct {
	// Hostname stands in the greeting and in the replies to EHLO, HELO and
	// QUIT. Required: a domain name without spaces.
	Hostname string
	// Keywords are the EHLO keywords offered besides STARTTLS, each with its
	// parameters. PIPELINING is true of this server; the backend's keywords
	// may be added, less those that need TLS.
	Keywords []string
	// IdleTimeout is how long the client may take for each command. The
	// whole phase may take twice that. 0 means DefaultIdleTimeout.
	IdleTimeout time.Duration
	// MaxCommands and MaxErrors end the session when they are passed.
	// 0 means DefaultMaxCommands and DefaultMaxErrors.
	MaxCommands int
	MaxErrors   int
	// TLSAvailable tells whether a handshake can succeed now; if not,
	// STARTTLS gets 454 and the session goes on. nil means always.
	TLSAvailable func() bool
}

// Negotiate carries conn from the greeting to the 220 that answers STARTTLS,
// and then returns nil: the next byte on conn belongs to the TLS handshake.
// No byte past the STARTTLS line was read.
//
// Any error means that the session is over: the last reply has been sent, and
// the caller closes conn. The id stands in the greeting and in replies that
// refuse something, so that a user's report can be found in a log.
//
// When ctx ends, the client gets 421 and Negotiate returns ErrShutdown.
// Deadlines of conn are set and, on success, cleared.
func (s *Server) Negotiate(ctx context.Context, conn net.Conn, id string) error {
	d := &dialogue{Server: s, conn: conn, id: id, end: time.Now().Add(2 * s.idleTimeout())}
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	err := d.run(ctx)
	if !stop() && err == nil {
		// The interrupt may hit the handshake's deadline instead: end here.
		err = ErrShutdown
	}
	if err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
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

// dialogue is one client's plain phase.
type dialogue struct {
	*Server
	conn     net.Conn
	id       string
	end      time.Time // when the whole phase must be over
	in       [maxLine]byte
	n        int // bytes of in that were read and not yet taken
	out      []byte
	total    int
	commands int
	errors   int
}

func (d *dialogue) run(ctx context.Context) error {
	d.reply("220 %s ESMTP ready (%s)", d.Hostname, d.id)
	for {
		line, err := d.readLine()
		if err != nil {
			return d.bye(ctx, err)
		}
		d.commands++
		done, err := d.command(line)
		if err == nil && !done {
			err = d.overLimit()
		}
		if done || err != nil {
			return errors.Join(err, d.flush())
		}
	}
}

// readLine returns the next command without its line end, and a nil line in
// place of one that was too long. Replies are sent before it waits for the
// client, so that a pipelined group is answered in one segment (RFC 2920).
func (d *dialogue) readLine() ([]byte, error) {
	tooLong := false
	deadline := time.Now().Add(d.idleTimeout())
	if deadline.After(d.end) {
		deadline = d.end
	}
	for {
		if d.n > 0 && d.in[0] == recordTypeHandshake {
			return nil, ErrTLSRecord
		}
		if i := bytes.IndexByte(d.in[:d.n], '\n'); i >= 0 {
			line := bytes.Clone(bytes.TrimSuffix(d.in[:i], []byte("\r")))
			d.n = copy(d.in[:], d.in[i+1:d.n])
			if tooLong {
				return nil, nil
			}
			return line, nil
		}
		if d.n == len(d.in) {
			tooLong, d.n = true, 0
		}
		if err := d.flush(); err != nil {
			return nil, err
		}
		if err := d.conn.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
		n, err := d.conn.Read(d.in[d.n:])
		d.n += n
		d.total += n
		if d.total > maxPlainBytes {
			return nil, ErrTooMuch
		}
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// recordTypeHandshake is the first byte of a ClientHello (RFC 8446 section 5.1).
// No SMTP command begins with it.
const recordTypeHandshake = 0x16

// bye sends the reply that belongs to the end of the phase, if any.
func (d *dialogue) bye(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		err = ErrShutdown
		d.reply("421 4.3.2 %s shutting down (%s)", d.Hostname, d.id)
	case errors.Is(err, os.ErrDeadlineExceeded):
		d.reply("421 4.4.2 %s timeout, closing connection (%s)", d.Hostname, d.id)
	case errors.Is(err, ErrTooMuch):
		d.reply("421 4.7.0 %s too much before STARTTLS (%s)", d.Hostname, d.id)
	case errors.Is(err, io.EOF), errors.Is(err, ErrTLSRecord):
		d.out = nil // nobody there who could read a reply
	}
	d.flush() // the session ends with err in any case
	return err
}

func (d *dialogue) overLimit() error {
	switch {
	case d.commands >= d.maxCommands():
		d.reply("421 4.7.0 %s too many commands before STARTTLS (%s)", d.Hostname, d.id)
		return ErrTooMuch
	case d.errors >= d.maxErrors():
		d.reply("421 4.7.0 %s too many errors (%s)", d.Hostname, d.id)
		return ErrTooManyErrors
	}
	return nil
}

// command answers one line. It reports true when STARTTLS was granted.
func (d *dialogue) command(line []byte) (upgraded bool, err error) {
	if line == nil {
		d.refuse("500 5.5.2 Line too long")
		return false, nil
	}
	verb, argument := splitCommand(line)
	switch {
	case verb == "STARTTLS":
		return d.startTLS(argument)
	case verb == "QUIT":
		d.reply("221 2.0.0 %s closing connection", d.Hostname)
		return false, ErrQuit
	case isHTTP(verb):
		d.refuse("554 5.5.1 This is an SMTP server")
		return false, ErrHTTP
	case verb == "EHLO" || verb == "HELO":
		d.hello(verb, argument)
	case verb == "NOOP" || verb == "RSET":
		d.reply("250 2.0.0 Ok")
	case verb == "HELP":
		d.reply("214 2.0.0 Commands before TLS: EHLO HELO HELP NOOP QUIT RSET STARTTLS")
	case verb == "":
		d.refuse("500 5.5.2 Syntax error, command unrecognized")
	default:
		d.refuse("530 5.7.0 Must issue a STARTTLS command first")
	}
	return false, nil
}

func (d *dialogue) startTLS(argument string) (bool, error) {
	switch {
	case argument != "":
		d.refuse("501 5.5.4 Syntax: STARTTLS")
		return false, nil
	case d.n > 0:
		d.refuse("503 5.5.1 No command may follow STARTTLS in its group")
		return false, ErrInjection
	case d.TLSAvailable != nil && !d.TLSAvailable():
		d.refuse("454 4.7.0 TLS not available due to local problem")
		return false, nil
	}
	d.reply("220 2.0.0 Ready to start TLS")
	return true, nil
}

func (d *dialogue) hello(verb, argument string) {
	switch {
	case argument == "":
		d.refuse("501 5.5.4 Syntax: " + verb + " hostname")
	case verb == "HELO":
		d.reply("250 %s", d.Hostname)
	default:
		// STARTTLS is never the first line (some appliances overlook it
		// there) and a reply has one last line.
		d.reply("250-%s", d.Hostname)
		for _, keyword := range d.Keywords {
			d.reply("250-%s", keyword)
		}
		d.reply("250 STARTTLS")
	}
}

// refuse sends a reply that counts as the client's error. Text of the
// client's never stands in it.
func (d *dialogue) refuse(text string) {
	d.errors++
	d.reply("%s (%s)", text, d.id)
}

func (d *dialogue) reply(format string, arguments ...any) {
	d.out = append(fmt.Appendf(d.out, format, arguments...), "\r\n"...)
}

func (d *dialogue) flush() error {
	if len(d.out) == 0 {
		return nil
	}
	d.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := d.conn.Write(d.out)
	d.out = d.out[:0]
	return err
}

// splitCommand gives the verb in upper case and the text behind it. The verb
// is "" where the line does not begin with a word of ASCII letters.
func splitCommand(line []byte) (verb, argument string) {
	word, rest, _ := bytes.Cut(bytes.TrimLeft(line, " \t"), []byte(" "))
	for _, c := range word {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return "", ""
		}
	}
	return strings.ToUpper(string(word)), string(bytes.TrimSpace(rest))
}

// isHTTP knows the methods with which a cross-protocol attack begins (ALPACA).
func isHTTP(verb string) bool {
	switch verb {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "PRI", "TRACE":
		return true
	}
	return false
}
