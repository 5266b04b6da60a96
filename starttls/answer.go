package starttls

import (
	"bytes"
	"strings"
)

// Replies that stand in several places. The session's id follows each.
const (
	mustStartTLS   = "530 5.7.0 Must issue a STARTTLS command first"
	tlsActive      = "503 5.5.1 TLS is already active"
	notImplemented = "502 5.5.1 Command not implemented"
	startTLSSyntax = "501 5.5.4 Syntax: STARTTLS"
	startTLSLast   = "503 5.5.1 No command may follow STARTTLS in its group"
	noTLS          = "454 4.7.0 TLS not available due to local problem"
	unknownCommand = "500 5.5.2 Syntax error, command unrecognized"
	refuseHTTP     = "554 5.5.1 This is an SMTP server"
)

// readyForTLS is the last line in plain text, and has no id behind it.
const readyForTLS = "220 2.0.0 Ready to start TLS"

// command answers one line, nil for one that was too long.
func (d *dialogue) command(line []byte) (next, error) {
	if line == nil {
		d.refuse("500 5.5.2 Line too long")
		return another, nil
	}
	verb, argument := splitCommand(line)
	switch {
	case verb == "STARTTLS":
		return d.startTLS(argument)
	case verb == "QUIT":
		d.reply("221 2.0.0 %s closing connection", d.identity.Hostname)
		return another, ErrQuit
	case isHTTP(verb):
		d.refuse(refuseHTTP)
		return another, ErrHTTP
	case verb == "EHLO" || verb == "HELO":
		d.answerHello(verb, argument)
	case verb == "NOOP" || verb == "RSET":
		d.reply("250 2.0.0 Ok")
	case verb == "HELP":
		d.reply("214 2.0.0 Commands before TLS: EHLO HELO HELP NOOP QUIT RSET STARTTLS")
	case verb == "":
		d.refuse(unknownCommand)
	case d.Policy == Optional:
		return d.forBackend(), nil
	case isSMTP(verb):
		d.refuse(mustStartTLS)
	default:
		d.refuse(unknownCommand)
	}
	return another, nil
}

// forBackend ends the phase with the last command, if a backend may have it.
func (d *dialogue) forBackend() next {
	if reply, _ := inPlain.refusal(trimFiller(d.line)); reply != "" {
		d.refuse(reply)
		return another
	}
	return backend
}

func (d *dialogue) startTLS(argument string) (next, error) {
	switch {
	case argument != "":
		d.refuse(startTLSSyntax)
		return another, nil
	case d.n > 0:
		d.refuse(startTLSLast)
		return another, ErrInjection
	case d.TLSAvailable != nil && !d.TLSAvailable():
		d.refuse(noTLS)
		return another, nil
	}
	d.reply(readyForTLS)
	return handshake, nil
}

// answerHello answers EHLO and HELO, and keeps them for a backend. The argument
// may not hide another line from it.
func (d *dialogue) answerHello(verb, argument string) {
	if argument == "" || strings.ContainsFunc(argument, isControl) {
		d.refuse("501 5.5.4 Syntax: " + verb + " hostname")
		return
	}
	d.hello = []byte(verb + " " + argument + "\r\n")
	if verb == "HELO" {
		d.reply("250 %s", d.identity.Hostname)
		return
	}
	// STARTTLS is never the first line (some appliances overlook it there) and
	// a reply has one last line.
	d.reply("250-%s", d.identity.Hostname)
	for _, keyword := range d.identity.Keywords {
		if forPlain(keyword) {
			d.reply("250-%s", keyword)
		}
	}
	d.reply("250 STARTTLS")
}

// splitCommand gives the verb in upper case and the text behind it. The verb
// is "" where the line does not begin with a word as a command is one.
func splitCommand(line []byte) (verb, argument string) {
	line = bytes.Trim(line, " \t")
	word, rest := line, []byte(nil)
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		word, rest = line[:i], line[i:]
	}
	for i, c := range word {
		if !isLetter(c) && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return "", ""
		}
	}
	return strings.ToUpper(string(word)), string(bytes.TrimLeft(rest, " \t"))
}

// isSMTP knows the commands of SMTP and its extensions that need TLS, where it
// is required. 530 tells a client that TLS helps; to any other word it would
// be a lie.
func isSMTP(verb string) bool {
	switch verb {
	case "MAIL", "RCPT", "DATA", "BDAT", "BURL", "AUTH", "VRFY", "EXPN", "ETRN", "ATRN", "TURN", "SEND", "SOML", "SAML", "XCLIENT", "XFORWARD":
		return true
	}
	return false
}
