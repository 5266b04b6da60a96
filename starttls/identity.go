package starttls

import (
	"bytes"
	"slices"
	"strings"
)

const (
	maxKeywords = 100 // as many lines as a reply to EHLO must be able to have
	maxKeyword  = 500 // bytes of a line, so that the reply's line keeps within 512 (RFC 5321 section 4.5.3.1.5)
	maxHostname = 255 // RFC 5321 section 4.5.3.1.2
)

// Identity is what a server presents itself as: its name, and what it offers in
// the reply to EHLO.
type Identity struct {
	Hostname string   // "" where it is not known
	Keywords []string // each with its parameters
	// XCLIENT is what a backend lets the proxy say of clients (Postfix's
	// XCLIENT_README), nil where it offers no XCLIENT. It is not for clients.
	XCLIENT []string
}

// ParseEHLO takes the identity out of a backend's 250 reply to EHLO, for a
// Server in front of it. It leaves out what is not for clients before TLS:
// STARTTLS, AUTH, XCLIENT, XFORWARD and REQUIRETLS. Lines that are none of RFC
// 5321 section 4.1.1.1, or longer than 500 bytes, and keywords that came before
// are dropped, and so is all behind 100 keywords. The name is the first word of
// the first line, "" if that cannot be one.
func ParseEHLO(reply []byte) Identity {
	var identity Identity
	seen := map[string]bool{}
	first := true
	for line := range bytes.Lines(reply) {
		keyword, _ := splitKeyword(line)
		if first {
			first = false
			if isHostname(string(keyword)) {
				identity.Hostname = string(keyword)
			}
			continue
		}
		name := strings.ToUpper(string(keyword))
		if len(identity.Keywords) == maxKeywords {
			break
		}
		text := string(bytes.Trim(line[min(4, len(line)):], " \t\r\n"))
		if name == "XCLIENT" && identity.XCLIENT == nil {
			identity.XCLIENT = append([]string{}, strings.Fields(text)[1:]...)
		}
		if isKeyword(name) && !seen[name] && len(text) <= maxKeyword && isASCII(text) && forPlain(text) {
			identity.Keywords = append(identity.Keywords, text)
			seen[name] = true
		}
	}
	return identity
}

// WithoutChunking is the identity for sessions with a trace header, in which
// BDAT is not offered.
func (i Identity) WithoutChunking() Identity {
	i.Keywords = slices.DeleteFunc(slices.Clone(i.Keywords), func(keyword string) bool {
		return isOneOf(keywordName(keyword), chunkKeywords)
	})
	return i
}

// forPlain tells whether a keyword may be offered before TLS: a client that
// saw AUTH might send its password in the clear.
func forPlain(keyword string) bool {
	return keyword != "" && !strings.ContainsFunc(keyword, isControl) && !isOneOf(keywordName(keyword), plainHidden)
}

// keywordName is the keyword of a line without its parameters. Old servers
// have "AUTH=LOGIN".
func keywordName(line string) string {
	if i := strings.IndexAny(line, " \t="); i >= 0 {
		return line[:i]
	}
	return line
}

// isKeyword holds the syntax of RFC 5321 section 4.1.1.1, and lets the
// underscore pass that some servers have.
func isKeyword(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return (r > 0x7f || !isLetter(byte(r))) && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// isHostname tells whether a word may be a domain name or an address literal.
func isHostname(word string) bool {
	return word != "" && len(word) <= maxHostname && !strings.ContainsFunc(word, func(r rune) bool {
		return r > 0x7f || !isHostnameByte(byte(r))
	})
}

func isHostnameByte(c byte) bool {
	return isLetter(c) || '0' <= c && c <= '9' || bytes.IndexByte([]byte("-._:[]"), c) >= 0
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f })
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }
