package starttls

import (
	"errors"
	"fmt"
	"io"
)

// maxGreeting bounds the lines that a backend may greet with.
const maxGreeting = 8 << 10

// ErrGreeting is returned, wrapped, by ReadGreeting for bytes that are not
// one SMTP reply.
var ErrGreeting = errors.New("backend's greeting is not an SMTP reply")

// Greeting is what a backend said first, and in the same form its reply to the
// EHLO that follows.
type Greeting struct {
	Code int    // 200 to 599; 220 when the backend is ready
	Text []byte // every line as received, with its line ends
}

// Ready tells whether the backend takes commands (RFC 5321 section 4.3.2). The
// text of one that does not is the answer to the client's first command.
func (g Greeting) Ready() bool { return g.Code/100 == 2 }

// ReadGreeting reads a backend's greeting, all lines of it, from a fresh
// connection, and no byte behind it. The caller sets the deadline, and closes
// the connection after an error.
//
// It returns ErrGreeting, wrapped, for what is no reply (RFC 5321 section
// 4.2.1), for more than 8 KiB, and for a backend that says more than its
// greeting before it was spoken to: that would be taken for the reply to the
// client's first command. An end of the stream within the greeting is
// io.ErrUnexpectedEOF, one before it io.EOF. The text so far comes with each
// error.
func ReadGreeting(backend io.Reader) (Greeting, error) {
	return readReply(backend, maxGreeting, ErrGreeting)
}

// ReadReply reads one reply to a command as ReadGreeting reads a greeting, of at
// most limit bytes. The error is that of the connection, io.ErrUnexpectedEOF
// included, or ErrReply, wrapped.
func ReadReply(backend io.Reader, limit int) (Greeting, error) {
	return readReply(backend, limit, ErrReply)
}

// readReply reads one reply within a limit. The error malformed, wrapped, is
// for all that is none.
func readReply(backend io.Reader, limit int, malformed error) (Greeting, error) {
	var (
		g     Greeting
		p     replyParser
		chunk [512]byte
	)
	for {
		n, err := backend.Read(chunk[:])
		g.Text = append(g.Text, chunk[:n]...)
		used, code, syntax := p.next(chunk[:n])
		switch {
		case syntax != nil:
			return g, fmt.Errorf("%w: %w", malformed, syntax)
		case len(g.Text) > limit:
			return g, fmt.Errorf("%w: longer than %d bytes", malformed, limit)
		case used < n:
			return g, fmt.Errorf("%w: more bytes behind it", malformed)
		case code != 0:
			g.Code = code
			return g, nil
		case errors.Is(err, io.EOF) && len(g.Text) > 0:
			return g, io.ErrUnexpectedEOF
		case err != nil:
			return g, err
		}
	}
}
