package starttls

import (
	"bytes"
	"math"
	"strconv"
)

// isCommandLine tells whether every backend takes the line for exactly one:
// it ends in CRLF, and has no other CR or LF.
func isCommandLine(line []byte) bool {
	n := len(line) - len("\r\n")
	return n >= 0 && bytes.IndexByte(line, '\r') == n && line[n+1] == '\n'
}

// isBlank tells whether a line names no command. Some backends answer it and
// some do not.
func isBlank(line []byte) bool { return len(trimFiller(line)) == 0 }

func trimFiller(line []byte) []byte {
	for len(line) > 0 && isFiller(line[0]) {
		line = line[1:]
	}
	return line
}

// isFiller tells of a byte that a backend may pass over in front of a verb:
// blanks, controls, and what may be a blank in Unicode.
func isFiller(c byte) bool { return c <= ' ' || c >= 0x7f }

// upperVerb copies the first word of the line in upper case, and returns its
// length; 0 for one that is longer than any verb of interest.
func upperVerb(verb *[8]byte, line []byte) int {
	for i, c := range trimFiller(line) {
		switch {
		case c <= ' ':
			return i
		case i == len(verb):
			return 0
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		verb[i] = c
	}
	return 0
}

// refused are the commands that no client may give to the backend. STARTTLS
// would start TLS within TLS. XCLIENT and XFORWARD say who the client is, and
// a backend believes them of the proxy.
var refused = [...]struct {
	verb  []byte
	reply string
}{
	{[]byte("STARTTLS"), "503 5.5.1 TLS is already active"},
	{[]byte("XCLIENT"), "502 5.5.1 Command not implemented"},
	{[]byte("XFORWARD"), "502 5.5.1 Command not implemented"},
	// The dotless i becomes I in languages that change all of Unicode to
	// upper case.
	{[]byte("XCL\u0131ENT"), "502 5.5.1 Command not implemented"},
}

// refusal returns the reply to a line that begins with a refused command, ""
// for any other. A line that is too short to tell is no such line, yet.
func refusal(line []byte) (reply string, tooShort bool) {
	for _, r := range refused {
		if found, tooShort := hasVerb(line, r.verb); found {
			return r.reply, false
		} else if tooShort {
			return "", true
		}
	}
	return "", false
}

// hasVerb tells whether the line begins with the verb and no letter follows.
func hasVerb(line, verb []byte) (found, tooShort bool) {
	n := min(len(line), len(verb))
	switch {
	case !bytes.EqualFold(line[:n], verb[:n]):
		return false, false
	case len(line) <= len(verb):
		return false, true
	}
	return !isLetter(line[n]), false
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// guard looks through a plain pipe for lines that begin with a refused
// command, in bytes of which the filter no longer knows whether the backend
// takes them for commands. Any CR and any LF may begin a line here, and once
// BDAT was seen, any octet: it may be the first behind a chunk. STARTTLS is
// looked for at the start of lines only: text has it anywhere, and TLS within
// TLS harms nobody but the client that hid the command. The zero value is at
// the start of a line.
type guard struct {
	inLine bool
	chunks bool // BDAT was seen
}

// scan returns how many bytes may pass, and whether a refused command stands
// behind them. If not, the rest is too short to tell; it is never longer than
// a verb and two bytes.
func (g *guard) scan(p []byte) (n int, found bool) {
	for n < len(p) {
		switch {
		case g.inLine:
			n += g.skip(p[n:])
			if n == len(p) {
				return n, false
			}
			if g.inLine = p[n] != '\r' && p[n] != '\n'; !g.inLine {
				break
			}
			if found, tooShort := isHidden(p[n:]); found || tooShort {
				return n, found
			}
		case isFiller(p[n]):
		default:
			found, tooShort := isHidden(p[n:])
			if found || tooShort {
				return n, found
			}
			if found, tooShort = hasVerb(p[n:], bdat); tooShort {
				return n, false
			}
			g.chunks = g.chunks || found
			g.inLine = true
		}
		n++
	}
	return n, false
}

var bdat = []byte("BDAT")

// skip returns where in a line something of interest begins: a line end, or
// what tells the backend who the client is.
func (g *guard) skip(p []byte) int {
	interest := "\r\n"
	if g.chunks {
		interest = "\r\nxX"
	}
	if i := bytes.IndexAny(p, interest); i >= 0 {
		return i
	}
	return len(p)
}

// isHidden is refusal for bytes that are rather text than commands: STARTTLS
// with something behind it begins a sentence, and starts no TLS anywhere.
func isHidden(line []byte) (found, tooShort bool) {
	reply, tooShort := refusal(line)
	if n := len("STARTTLS"); reply == refused[0].reply && line[n] == ' ' {
		if len(line) == n+1 {
			return false, true
		}
		return line[n+1] <= ' ', false
	}
	return reply != "", tooShort
}

// parseBDAT reads "BDAT" SP size [SP "LAST"] CRLF, and nothing more lenient: a
// size that a backend may read in another way would make it take a chunk for
// commands. Exim keeps 32 bits of it, and C may read a leading 0 as octal.
func parseBDAT(line []byte) (size uint64, last, ok bool) {
	argument, found := bytes.CutPrefix(line[len("BDAT"):len(line)-len("\r\n")], []byte(" "))
	number, tail, isTail := bytes.Cut(argument, []byte(" "))
	if isTail && !bytes.EqualFold(tail, []byte("LAST")) {
		return 0, false, false
	}
	size, err := strconv.ParseUint(string(number), 10, 64)
	if !found || err != nil || size > math.MaxInt32 || number[0] == '0' && len(number) > 1 {
		return 0, false, false
	}
	return size, isTail, true
}
