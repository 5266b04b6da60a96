package starttls

import (
	"net/netip"
	"strings"
	"time"
)

// Trace is what a Received header tells of a session, besides what the Filter
// knows itself: the client's name as its last EHLO or HELO gave it, our host
// name, the session's id, and the protocol (RFC 3848): ESMTPS, ESMTPSA once
// AUTH got 235, ESMTP in plain text, SMTP after HELO. None of the texts is
// trusted: what could end a word of the header stands in it as a question mark.
//
// The header comes behind the backend's 354 and before the message, which stays
// as it was sent. A message that begins with a blank, and so with no header of
// its own, thereby continues ours. A message in chunks gets no header, which a
// client meets that sends BDAT although it is not offered, and neither does one
// in a session that became a plain pipe. The header counts towards the
// backend's limit of a message's size.
type Trace struct {
	Client     netip.Addr // the client's address
	ServerName string     // that the client asked for by SNI; "" for none
	TLSVersion string     // as in "TLSv1.3"; not used for a client in plain text
	Cipher     string     // as in "TLS_AES_128_GCM_SHA256"
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// foldAt is how long a header's line should be at most (RFC 5322 section 2.1.1).
// No word is longer than a name with its brackets, so that 998 is never met.
const foldAt = 78

// trace writes the header of a message to the backend. The client's first byte
// is still to come.
func (f *Filter) trace() error {
	if f.config.Trace == nil {
		return nil
	}
	f.mu.Lock()
	authed := f.authed
	f.mu.Unlock()
	_, err := f.backend.Write(f.received(authed))
	return err
}

// received makes the header (RFC 5321 section 4.4). The comment has the form of
// Postfix's, which filters of spam know.
func (f *Filter) received(authed bool) []byte {
	t := f.config.Trace
	now := time.Now
	if t.Now != nil {
		now = t.Now
	}
	plain := f.config.Plaintext != nil
	clauses := [][]string{{"Received:", "from", helloName(f.hello), "(" + addressLiteral(t.Client) + ")"}}
	if !plain {
		using := []string{"(using", word(t.TLSVersion), "with", "cipher", word(t.Cipher)}
		if name := word(t.ServerName); name == t.ServerName {
			using = append(using, "for", "server", "name", name)
		}
		using[len(using)-1] += ")"
		clauses = append(clauses, using)
	}
	return fold(append(clauses,
		[]string{"by", word(f.config.Hostname), "with", protocol(f.hello, plain, authed), "id", word(f.config.ID) + ";"},
		strings.Fields(now().Format(time.RFC1123Z))))
}

// protocol is the word behind "with" (RFC 3848; RFC 5321 section 4.4 for SMTP,
// which knows no TLS).
func protocol(hello string, plain, authed bool) string {
	switch {
	case !verbIs([]byte(hello), "EHLO"):
		return "SMTP"
	case plain:
		return "ESMTP"
	case authed:
		return "ESMTPSA"
	}
	return "ESMTPS"
}

// helloName is the client's name for itself.
func helloName(hello string) string {
	_, name := splitCommand([]byte(strings.TrimRight(hello, "\r\n")))
	if inner, found := strings.CutPrefix(name, "["); found && strings.HasSuffix(inner, "]") {
		return "[" + clean(inner[:len(inner)-1], ":") + "]"
	}
	return word(name)
}

func addressLiteral(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid():
		return "unknown"
	case a.Is4():
		return "[" + a.String() + "]"
	}
	return "[IPv6:" + a.String() + "]"
}

// word makes of any text one word of a header that needs no quotes.
func word(text string) string {
	if text == "" {
		return "unknown"
	}
	return clean(text, "")
}

// clean cuts a text, and puts a question mark in place of each byte that is not
// of a domain name and not also allowed.
func clean(text, also string) string {
	b := []byte(text[:min(len(text), maxHostname)])
	for i, c := range b {
		if !isLetter(c) && (c < '0' || c > '9') && strings.IndexByte("-._"+also, c) < 0 {
			b[i] = '?'
		}
	}
	return string(b)
}

// fold gives each clause of a header its line, or several where it is long.
func fold(clauses [][]string) []byte {
	var header []byte
	for _, clause := range clauses {
		width := 0
		for i, w := range clause {
			switch {
			case len(header) == 0:
			case i == 0 || width+len(" ")+len(w) > foldAt:
				header = append(header, "\r\n\t"...)
				width = len("\t")
			default:
				header = append(header, ' ')
				width++
			}
			header = append(header, w...)
			width += len(w)
		}
	}
	return append(header, "\r\n"...)
}
