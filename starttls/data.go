package starttls

import "bytes"

// endOfData finds the end of a message that comes in parts. The zero value
// stands behind the CRLF of the DATA command.
//
// Only CRLF "." CRLF ends a message. Some backends take other line ends for
// CRLF, or pass over NUL, and to them a message may end earlier (SMTP
// smuggling: CVE-2023-51764, -51765, -51766). The bytes pass unchanged in any
// case; but the filter then does not know what the backend takes for commands.
type endOfData struct{ state dataState }

type dataState uint8

const (
	afterCRLF  dataState = iota
	afterCR              // at the start of a line behind a CR
	afterOther           // at the start of a line behind a bare LF or a NUL
	midLine
	afterDot      // behind CRLF "."
	afterDotCR    // behind CRLF "." CR
	afterLooseDot // behind a dot that some take for the first of its line
)

type ending uint8

const (
	noEnd    ending = iota
	end             // CRLF "." CRLF
	looseEnd        // what only some backends take for it
)

// scan returns how many bytes of the part belong to the message, up to and
// with the ending that was found. Behind a loose end begins what some backends
// take for a command.
func (d *endOfData) scan(part []byte) (n int, found ending) {
	for n < len(part) {
		if d.state == midLine {
			if n += uneventful(part[n:]); n == len(part) {
				break
			}
		}
		bareCR := d.state == afterDotCR && part[n] != '\n'
		d.state, found = d.state.next(part[n])
		if bareCR {
			break // the byte is the first of the next line
		}
		n++
		if found != noEnd {
			break
		}
	}
	return n, found
}

// uneventful returns how many bytes from the middle of a line on can be passed
// over: up to the line ends in front of the next dot or of the end of p. It is
// what the speed of bulk data depends on.
func uneventful(p []byte) int {
	for i := 0; ; i++ {
		if dot := bytes.IndexByte(p[i:], '.'); dot >= 0 {
			i += dot
		} else {
			i = len(p)
		}
		begin := i
		for begin > 0 && (p[begin-1] == '\n' || p[begin-1] == '\r' || p[begin-1] == 0) {
			begin--
		}
		if begin < i || i == len(p) {
			return begin
		}
	}
}

// next returns the state behind the byte c, and the ending that it completes.
func (s dataState) next(c byte) (dataState, ending) {
	switch {
	case s == afterDotCR && c == '\n':
		return afterCRLF, end
	case s == afterDotCR, s == afterDot && c == '\n', s == afterLooseDot && (c == '\r' || c == '\n'):
		return afterOther, looseEnd
	case s == afterDot && c == '\r':
		return afterDotCR, noEnd
	case (s == afterDot || s == afterLooseDot) && c == 0:
		return afterLooseDot, noEnd
	case s == afterDot, s == afterLooseDot:
		return midLine, noEnd
	case c == '\r':
		return afterCR, noEnd
	case c == '\n' && s == afterCR:
		return afterCRLF, noEnd
	case c == '\n':
		return afterOther, noEnd
	case s == midLine:
		return midLine, noEnd
	case c == 0:
		return afterOther, noEnd
	case c == '.' && s == afterCRLF:
		return afterDot, noEnd
	case c == '.':
		return afterLooseDot, noEnd
	}
	return midLine, noEnd
}
