package starttls

import (
	"bytes"
	"slices"
	"strings"
)

// EHLO keywords that are not for clients.
var (
	// tlsHidden: STARTTLS must not be offered under TLS (RFC 3207 section
	// 4.2); with XCLIENT and XFORWARD a client could forge the address that
	// the proxy reports.
	tlsHidden = []string{"STARTTLS", "XCLIENT", "XFORWARD"}
	// plainHidden: AUTH would show a password, REQUIRETLS is offered under TLS
	// only (RFC 8689 section 2), and STARTTLS is offered by the proxy itself.
	plainHidden = []string{"STARTTLS", "XCLIENT", "XFORWARD", "AUTH", "REQUIRETLS"}
	// chunkKeywords need BDAT or BURL, in which no header can be put before a
	// message.
	chunkKeywords = []string{"CHUNKING", "BINARYMIME", "BURL"}
)

func isOneOf(name string, names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// ehloFilter makes of a backend's 250 reply to EHLO what a client may see.
type ehloFilter struct {
	hidden   []string // keywords that go
	starttls bool     // STARTTLS is added
}

// filter returns a whole reply. Lines that stay keep every byte, but for the
// fourth one of the last.
func (e ehloFilter) filter(reply []byte) []byte {
	out := e.hide(reply)
	last := bytes.LastIndexByte(out[:len(out)-1], '\n') + 1
	if !e.starttls {
		return setFourth(out, last, ' ')
	}
	// Never the first line: some appliances overlook it there.
	return append(setFourth(out, last, '-'), "250 STARTTLS\r\n"...)
}

// setFourth sets the byte behind the code of the line that begins at start. A
// line may be a code alone (RFC 5321 section 4.2): then it is the last, and the
// byte is added where the line must not be.
func setFourth(reply []byte, start int, c byte) []byte {
	at := start + len("250")
	switch {
	case reply[at] == '-' || reply[at] == ' ':
		reply[at] = c
	case c == '-':
		reply = slices.Insert(reply, at, c)
	}
	return reply
}

// hide returns a copy of the lines of a reply to EHLO that clients may see. The
// first line is the greeting and always stays.
func (e ehloFilter) hide(reply []byte) []byte {
	out := make([]byte, 0, len(reply)+len("-250 STARTTLS\r\n"))
	first := true
	for line := range bytes.Lines(reply) {
		if !first {
			line = e.filterKeyword(line)
		}
		first = false
		out = append(out, line...)
	}
	return out
}

// hasKeyword tells whether a reply to EHLO offers a keyword.
func hasKeyword(reply []byte, keyword string) bool {
	first := true
	for line := range bytes.Lines(reply) {
		if word, _ := splitKeyword(line); !first && bytes.EqualFold(word, []byte(keyword)) {
			return true
		}
		first = false
	}
	return false
}

// splitKeyword returns the keyword of an EHLO line and what stands behind it,
// without the line end.
func splitKeyword(line []byte) (keyword, parameters []byte) {
	if len(line) < 4 {
		return nil, nil
	}
	text := bytes.Trim(line[4:], " \t\r\n")
	if i := bytes.IndexAny(text, " \t"); i >= 0 {
		return text[:i], text[i+1:]
	}
	return text, nil
}

// filterKeyword returns the EHLO line as the client may see it, nil for one
// that it may not.
func (e ehloFilter) filterKeyword(line []byte) []byte {
	keyword, parameters := splitKeyword(line)
	name, _, legacy := bytes.Cut(keyword, []byte("="))
	switch {
	case isOneOf(string(name), e.hidden):
		return nil
	case !bytes.EqualFold(name, []byte("AUTH")):
		return line
	}
	if legacy { // AUTH=LOGIN, from before RFC 2554
		_, parameters, _ = bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte("="))
	}
	return filterMechanisms(line, parameters)
}

// filterMechanisms takes the SASL mechanisms out of an AUTH line that bind to
// the TLS channel: the backend's channel is not the client's, so that they can
// only fail (SCRAM-…-PLUS: RFC 5802 section 6; the suffix: RFC 5801 section 3).
// A line that then offers nothing goes.
func filterMechanisms(line, mechanisms []byte) []byte {
	all := bytes.Fields(mechanisms)
	var kept [][]byte
	for _, mechanism := range all {
		if !bytes.HasSuffix(bytes.ToUpper(mechanism), []byte("-PLUS")) {
			kept = append(kept, mechanism)
		}
	}
	switch len(kept) {
	case len(all):
		return line
	case 0:
		return nil
	}
	start := bytes.LastIndex(line, mechanisms)
	end := start + len(mechanisms)
	out := append([]byte(nil), line[:start]...)
	out = append(out, bytes.Join(kept, []byte(" "))...)
	return append(out, line[end:]...)
}
