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

// refusals are the commands that no client may give to the backend.
type refusals []struct {
	verb  []byte
	reply string
}

// underTLS: STARTTLS would start TLS within TLS. XCLIENT and XFORWARD say who
// the client is, and a backend believes them of the proxy; so does PROXY, which
// Haraka takes for a command at any time.
var underTLS = refusals{
	{proxy, notImplemented},
	{[]byte("STARTTLS"), tlsActive},
	{[]byte("XCLIENT"), notImplemented},
	{[]byte("XFORWARD"), notImplemented},
	// The dotless i becomes I in languages that change all of Unicode to
	// upper case.
	{[]byte("XCL\u0131ENT"), notImplemented},
}

var proxy = []byte("PROXY")

// inPlain: STARTTLS is for the proxy, and a password is not for the net.
var inPlain = append(refusals{
	{[]byte("AUTH"), mustStartTLS},
}, underTLS...)

// refusal returns the reply to a line that begins with a refused command, ""
// for any other. A line that is too short to tell is no such line, yet.
func (rs refusals) refusal(line []byte) (reply string, tooShort bool) {
	for _, r := range rs {
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

// isLast reports whether the last word of a command is LAST.
func isLast(line []byte) bool {
	words := bytes.Fields(line)
	return bytes.EqualFold(words[len(words)-1], []byte("LAST"))
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
