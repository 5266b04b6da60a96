package probe

import (
	"fmt"
	"slices"
	"strings"
)

// name is what the server calls itself: the first word of its reply.
func (r *Reply) name() string {
	if len(r.Lines) > 0 {
		if words := strings.Fields(r.Lines[0]); len(words) > 0 {
			return words[0]
		}
	}
	return "the server"
}

// Keywords are the lines of a reply to EHLO behind the first: each a keyword with
// its parameters. A nil reply, and one that refuses, has none.
func (r *Reply) Keywords() []string {
	if r == nil || r.Code != 250 || len(r.Lines) == 0 {
		return nil
	}
	return r.Lines[1:]
}

// Keyword is the word that a line of a reply to EHLO begins with, in capitals.
// Old servers have "AUTH=LOGIN" besides "AUTH LOGIN".
func Keyword(line string) string {
	word, _, _ := strings.Cut(line, " ")
	word, _, _ = strings.Cut(word, "=")
	return strings.ToUpper(word)
}

func (r *Reply) has(keyword string) bool {
	return slices.ContainsFunc(r.Keywords(), func(line string) bool { return Keyword(line) == keyword })
}

// compare judges what EHLO offers before and under TLS.
func (s *session) compare() {
	plain, secure := s.out.EHLOPlain, s.out.EHLOSecure
	if plain.has("AUTH") {
		s.found(Finding{Level: Warn, ID: "auth_before_tls", Text: "AUTH is offered before TLS: a client may send its password in plain text",
			Mend: "offer it under TLS only (Postfix: smtpd_tls_auth_only = yes; Dovecot: auth_allow_cleartext = no)"})
	}
	if secure.has("STARTTLS") {
		s.found(Finding{Level: Warn, ID: "starttls_twice", Text: "STARTTLS is offered under TLS, where RFC 3207 section 4.2 forbids it: some clients try, and fail",
			Mend: "behind a proxy that terminates TLS, switch TLS off at the backend's port (Postfix: smtpd_tls_security_level = none)"})
	}
	for _, line := range secure.Keywords() {
		if mechanism := channelBinding(line); mechanism != "" {
			s.found(Finding{Level: Warn, ID: "scram_plus", Text: fmt.Sprintf("%s is offered, which binds the password to the TLS channel: behind a proxy that terminates TLS it fails", mechanism),
				Mend: "where the server ends TLS itself, all is well; else take the mechanism out at the backend (smtp-tlsproxy does it by itself)"})
		}
		if word := Keyword(line); word == "XCLIENT" || word == "XFORWARD" {
			s.found(Finding{Level: Warn, ID: "xclient", Text: word + " is offered to this client, which can then pass itself off as another one",
				Mend: "offer it to the proxy alone (Postfix: smtpd_authorized_xclient_hosts, smtpd_authorized_xforward_hosts); on a machine that is trusted so, look from another one"})
		}
	}
	if isSubmission(s.Port) && !secure.has("AUTH") {
		s.found(Finding{Level: Warn, ID: "auth_missing", Text: "AUTH is not offered under TLS on a port for submission: users can not log in",
			Mend: "switch SASL on at the server; behind a proxy, some servers offer it only if the PROXY header tells them of TLS (smtp-tlsproxy: client_info: proxy-v2 and the preset of the server)"})
	}
	for _, line := range plain.Keywords() {
		if word := Keyword(line); word != "STARTTLS" && word != "AUTH" && !secure.has(word) {
			s.found(Finding{Level: Note, ID: "keyword_lost", Text: fmt.Sprintf("%s is offered before TLS and not under it", word),
				Mend: "unusual: look whether another server answers under TLS"})
		}
	}
	if name := s.out.Greeting.name(); strings.Contains(name, ".") && !strings.EqualFold(name, s.ServerName) && s.chain[0].VerifyHostname(name) != nil {
		s.found(Finding{Level: Note, ID: "greeting_name", Text: fmt.Sprintf("the greeting names %s, for which the certificate is not", name),
			Mend: "harmless for mail clients; mail servers that verify want the name of the MX record in the certificate"})
	}
}

// isSubmission tells the ports for mail clients, 465 and 587, also as containers
// map them.
func isSubmission(port string) bool {
	return strings.HasSuffix(port, "465") || strings.HasSuffix(port, "587")
}

// channelBinding is the SASL mechanism of an AUTH line that needs the TLS channel
// of the server's own (RFC 5802), or "".
func channelBinding(line string) string {
	if Keyword(line) != "AUTH" {
		return ""
	}
	for _, word := range strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '=' }) {
		if word = strings.ToUpper(word); strings.HasSuffix(word, "-PLUS") {
			return word
		}
	}
	return ""
}
