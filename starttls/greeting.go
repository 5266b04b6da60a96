package starttls

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// maxGreeting bounds the lines that a backend may greet with.
const maxGreeting = 8 << 10

// ErrGreeting is returned, wrapped, by ReadGreeting for bytes that are not
// one SMTP reply.
var ErrGreeting = errors.New("backend's greeting is not an SMTP reply")

// Greeting is what a backend said first.
type Greeting struct {
	Code int    // 220 when the backend is ready
	Text []byte // every line as received, with its line ends
}

// Ready tells whether the backend takes commands (RFC 5321 section 4.3.2).
func (g Greeting) Ready() bool { return g.Code/100 == 2 }

// ReadGreeting reads a backend's greeting, all lines of it, from a fresh
// connection. The caller sets the deadline. A backend that says more than its
// greeting before it was spoken to is refused: what it said would be taken
// for the reply to the client's first command.
func ReadGreeting(backend io.Reader) (Greeting, error) {
	var (
		g     Greeting
		p     replyParser
		chunk [512]byte
	)
	for {
		n, err := backend.Read(chunk[:])
		g.Text = append(g.Text, chunk[:n]...)
		if n > 0 {
			used, code, err := p.next(chunk[:n])
			switch {
			case err != nil:
				return g, fmt.Errorf("%w: %w", ErrGreeting, err)
			case code == 0:
			case used < n:
				return g, fmt.Errorf("%w: more bytes behind it", ErrGreeting)
			default:
				g.Code = code
				return g, nil
			}
		}
		if err != nil {
			return g, err
		}
		if len(g.Text) > maxGreeting {
			return g, fmt.Errorf("%w: longer than %d bytes", ErrGreeting, maxGreeting)
		}
	}
}

// replyParser follows the lines of replies (RFC 5321 section 4.2.1) through
// reads that cut them anywhere. The zero value is at the start of a reply.
type replyParser struct {
	head [4]byte // the first bytes of the current line
	n    int     // how many of them were seen
	code int     // of the reply's first line; 0 before it is known
}

var errReplySyntax = errors.New("a line does not begin with a reply code")

// next reads p up to the end of one reply. It returns how many bytes it took
// and the reply's code, or code 0 when p ended before the reply did. A line
// ends at LF; what stands before it is not judged.
func (r *replyParser) next(p []byte) (used, code int, err error) {
	for used < len(p) {
		for r.n < len(r.head) && used < len(p) {
			c := p[used]
			if r.n < 3 && (c < '0' || c > '9') {
				return used, 0, errReplySyntax
			}
			if c == '\n' {
				break
			}
			r.head[r.n] = c
			r.n++
			used++
		}
		i := bytes.IndexByte(p[used:], '\n')
		if i < 0 {
			return len(p), 0, nil
		}
		used += i + 1
		last, err := r.endLine()
		if err != nil {
			return used, 0, err
		}
		if last {
			code, r.code = r.code, 0
			return used, code, nil
		}
	}
	return used, 0, nil
}

// endLine judges the line whose head is known and tells whether it was the
// reply's last.
func (r *replyParser) endLine() (last bool, err error) {
	if r.n < 3 {
		return false, errReplySyntax
	}
	code := int(r.head[0]-'0')*100 + int(r.head[1]-'0')*10 + int(r.head[2]-'0')
	fourth := byte(' ')
	if r.n == len(r.head) {
		fourth = r.head[3]
	}
	r.n = 0
	if code < 200 || code > 599 || fourth != '-' && fourth != ' ' && fourth != '\r' {
		return false, errReplySyntax
	}
	if r.code == 0 {
		r.code = code
	}
	if code != r.code {
		return false, errors.New("the lines of a reply have different codes")
	}
	return fourth != '-', nil
}

// started tells whether a part of a reply was read.
func (r *replyParser) started() bool { return r.n > 0 || r.code != 0 }
