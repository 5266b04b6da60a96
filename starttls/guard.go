package starttls

import "bytes"

// guard looks through a plain pipe for lines that begin with a refused
// command, in bytes of which the filter no longer knows whether the backend
// takes them for commands. Any CR and any LF may begin a line here, and once
// BDAT was seen, any octet: it may be the first behind a chunk. STARTTLS is
// looked for at the start of lines only: text has it anywhere, and TLS within
// TLS harms nobody but the client that hid the command. A guard without state
// is at the start of a line.
type guard struct {
	refused refusals
	inLine  bool
	chunks  bool // BDAT was seen
}

// scan returns how many bytes may pass, and whether a refused command stands
// behind them. If not, the rest is too short to tell; it is never longer than
// a verb and two bytes. It waits for more, which a chunk that ends so does not
// get: its client tries again later.
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
			if found, tooShort := g.isHidden(p[n:]); found || tooShort {
				return n, found
			}
		case isFiller(p[n]):
		default:
			found, tooShort := g.isHidden(p[n:])
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
		interest = "\r\nxXaApP"
	}
	if i := bytes.IndexAny(p, interest); i >= 0 {
		return i
	}
	return len(p)
}

// isHidden is refusal for bytes that are rather text than commands: STARTTLS
// with something behind it begins a sentence, and starts no TLS anywhere. AUTH
// and PROXY need a blank behind them, and "auth=pass" stands in many a header.
func (g *guard) isHidden(line []byte) (found, tooShort bool) {
	reply, tooShort := g.refused.refusal(line)
	if is, _ := hasVerb(line, proxy); is {
		return isFiller(line[len(proxy)]), false
	}
	if reply == mustStartTLS {
		return isFiller(line[len("AUTH")]), false
	}
	if n := len("STARTTLS"); reply == tlsActive && line[n] == ' ' {
		if len(line) == n+1 {
			return false, true
		}
		return line[n+1] <= ' ', false
	}
	return reply != "", tooShort
}
