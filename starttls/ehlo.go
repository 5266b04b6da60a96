package starttls

import "bytes"

// hiddenKeywords are the EHLO keywords that are not for clients. STARTTLS
// must not be offered under TLS (RFC 3207 section 4.2); with XCLIENT and
// XFORWARD a client could forge the address that the proxy reports.
var hiddenKeywords = [][]byte{[]byte("STARTTLS"), []byte("XCLIENT"), []byte("XFORWARD")}

// filterEHLO returns a backend's 250 reply to EHLO without what is not for
// clients under TLS. Lines that stay keep every byte, but for the hyphen of
// the last one.
func filterEHLO(reply []byte) []byte {
	out := hideKeywords(reply)
	last := bytes.LastIndexByte(out[:len(out)-1], '\n') + 1
	if len(out) > last+3 && out[last+3] == '-' {
		out[last+3] = ' '
	}
	return out
}

// hideKeywords returns a copy of the lines of a reply to EHLO that clients may
// see. The first line is the greeting and always stays.
func hideKeywords(reply []byte) []byte {
	out := make([]byte, 0, len(reply))
	first := true
	for line := range bytes.Lines(reply) {
		if !first {
			line = filterKeyword(line)
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
func filterKeyword(line []byte) []byte {
	keyword, parameters := splitKeyword(line)
	for _, hidden := range hiddenKeywords {
		if bytes.EqualFold(keyword, hidden) {
			return nil
		}
	}
	name, _, legacy := bytes.Cut(keyword, []byte("="))
	if !bytes.EqualFold(name, []byte("AUTH")) {
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
