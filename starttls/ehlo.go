package starttls

import "bytes"

// hiddenKeywords are the EHLO keywords that are not for clients. STARTTLS
// must not be offered under TLS (RFC 3207 section 4.2); with XCLIENT and
// XFORWARD a client could forge the address that the proxy reports.
var hiddenKeywords = [][]byte{[]byte("STARTTLS"), []byte("XCLIENT"), []byte("XFORWARD")}

// filterEHLO returns a backend's 250 reply to EHLO without what is not for
// clients under TLS. Lines that stay keep every byte, but for the hyphen of
// the last one. The first line is the greeting and always stays.
func filterEHLO(reply []byte) []byte {
	out := make([]byte, 0, len(reply))
	last := 0 // where the last line that stays begins
	for first := true; len(reply) > 0; first = false {
		line, rest, _ := bytes.Cut(reply, []byte("\n"))
		line = reply[:len(reply)-len(rest)]
		reply = rest
		if !first {
			line = filterKeyword(line)
		}
		if line != nil {
			last = len(out)
			out = append(out, line...)
		}
	}
	if len(out) > last+3 && out[last+3] == '-' {
		out[last+3] = ' '
	}
	return out
}

// hasKeyword tells whether a reply to EHLO offers a keyword.
func hasKeyword(reply []byte, keyword string) bool {
	for line := range bytes.Lines(reply) {
		if len(line) > 4 {
			word, _, _ := bytes.Cut(bytes.TrimRight(line[4:], "\r\n"), []byte(" "))
			if bytes.EqualFold(word, []byte(keyword)) {
				return true
			}
		}
	}
	return false
}

// filterKeyword returns the EHLO line as the client may see it, nil for one
// that it may not.
func filterKeyword(line []byte) []byte {
	if len(line) < 4 {
		return line
	}
	text := bytes.TrimRight(line[4:], "\r\n")
	keyword, parameters, _ := bytes.Cut(text, []byte(" "))
	for _, hidden := range hiddenKeywords {
		if bytes.EqualFold(keyword, hidden) {
			return nil
		}
	}
	switch {
	case bytes.EqualFold(keyword, []byte("AUTH")):
	case len(keyword) > 5 && bytes.EqualFold(keyword[:5], []byte("AUTH=")): // before RFC 2554
		parameters = text[5:]
	default:
		return line
	}
	return filterMechanisms(line, parameters)
}

// filterMechanisms takes the SASL mechanisms out of an AUTH line that bind to
// the TLS channel: the backend's channel is not the client's, so SCRAM-…-PLUS
// can only fail (RFC 5802 section 6). A line that offers nothing then goes.
func filterMechanisms(line, mechanisms []byte) []byte {
	if !bytes.Contains(bytes.ToUpper(mechanisms), []byte("-PLUS")) {
		return line
	}
	var kept [][]byte
	for _, mechanism := range bytes.Fields(mechanisms) {
		upper := bytes.ToUpper(mechanism)
		if !bytes.HasPrefix(upper, []byte("SCRAM-")) || !bytes.HasSuffix(upper, []byte("-PLUS")) {
			kept = append(kept, mechanism)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	start := bytes.LastIndex(line, mechanisms)
	end := start + len(mechanisms)
	out := append([]byte(nil), line[:start]...)
	out = append(out, bytes.Join(kept, []byte(" "))...)
	return append(out, line[end:]...)
}
