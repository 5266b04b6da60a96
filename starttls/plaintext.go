package starttls

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrHello is returned, by Replay and Probe wrapped, when the backend's answer to
// EHLO or HELO is no SMTP reply; by the copies of a Filter only in plain text.
var ErrHello = errors.New("backend's answer to EHLO is not an SMTP reply")

// Plaintext is a client that goes on without TLS, where Negotiate let it. The
// caller then connects to a backend, takes its greeting, says Hello with
// Replay, and relays with a Filter that has the Plaintext in its FilterConfig.
// A Plaintext serves one backend connection.
type Plaintext struct {
	// Hello is the client's last EHLO or HELO, one line with its CRLF; nil
	// where it said none.
	Hello []byte
	// Pending is what was read of the client's and is not answered: one whole
	// command, and what was behind it. It is the Filter that passes it on.
	Pending []byte
	// TLSAvailable is the Server's.
	TLSAvailable func() bool

	chunking bool // the backend offered it
}

// Name is what the client said behind EHLO or HELO, and whether it was EHLO.
func (p *Plaintext) Name() (name string, ehlo bool) {
	_, rest, _ := bytes.Cut(bytes.TrimSpace(p.Hello), []byte(" "))
	return string(bytes.TrimSpace(rest)), verbIs(p.Hello, "EHLO")
}

// Replay says Hello to a backend that has greeted, as the client did to us, and
// takes its reply, which is not for the client: it had ours. It reads no byte
// behind the reply. Where the client said neither EHLO nor HELO, nothing is
// written or read, and the reply is an empty 250.
//
// A reply that is not Ready is for the client: the caller gives its Text as the
// answer to the client's pending command, as with a greeting that is not, and
// ends the session.
//
// The errors are ErrHello, wrapped, also for a reply of more than 64 KiB, and
// those of the connection. The caller sets the deadline, and closes the
// connection after an error.
func (p *Plaintext) Replay(backend io.ReadWriter) (Greeting, error) {
	if p.Hello == nil {
		return Greeting{Code: 250}, nil
	}
	reply, err := exchange(backend, string(p.Hello), maxEHLOReply, ErrHello)
	if err != nil {
		return reply, err
	}
	if reply.Code/100 == 3 {
		return reply, fmt.Errorf("%w: code %d", ErrHello, reply.Code)
	}
	p.chunking = reply.Code == 250 && verbIs(p.Hello, "EHLO") && hasKeyword(reply.Text, "CHUNKING")
	return reply, nil
}

// verbIs tells whether a line has the verb, which is no longer than 8 letters.
func verbIs(line []byte, verb string) bool {
	var upper [8]byte
	return string(upper[:upperVerb(&upper, line)]) == verb
}

// startTLS judges a STARTTLS of a client in plain text. It returns the reply,
// and why the relay ends with it, if it does.
func (f *Filter) startTLS(line []byte) (reply string, reason error) {
	available := f.config.Plaintext.TLSAvailable
	w := &f.window
	switch {
	case !bytes.EqualFold(bytes.Trim(line, " \t\r\n"), []byte("STARTTLS")):
		return startTLSSyntax, nil
	case w.pos+len(line) < w.end:
		return startTLSLast, ErrInjection
	case available != nil && !available():
		return noTLS, nil
	}
	return readyForTLS, ErrSTARTTLS
}
