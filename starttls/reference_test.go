package starttls_test

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// reference says what a session with a model must come to. It is a filter
// without haste: it has all of the client's bytes at once, looks at them with
// the plainest means, and has each reply before it goes on.
type reference struct {
	kind      kind
	model     *model
	client    []byte // what is left of the client's bytes
	toBackend []byte
	toClient  []byte
	messages  int
	chunks    bool // the backend takes BDAT
	bdat      bool // BDAT was seen
	auth      bool // the next line answers a 334
	truncated bool
	refused   bool  // the session was ended
	cut       bool  // how much of the last bytes passed depends on the reads
	startTLS  bool  // the client may start TLS
	traces    []int // where a header belongs in toBackend
}

const longestLine = 16384

func (r *reference) run() {
	if r.kind&plainText != 0 {
		reply := filtered(string(r.model.feed(r.kind.hello())), r.kind)
		r.chunks = strings.Contains(reply, "CHUNKING") && r.kind&saidHELO == 0
	}
	for len(r.client) > 0 && !r.refused && !r.startTLS {
		r.line()
	}
	r.truncated = r.truncated || r.auth
}

// err is what CopyCommands must return.
func (r *reference) err() error {
	switch {
	case r.startTLS:
		return starttls.ErrSTARTTLS
	case r.refused:
		return starttls.ErrRefused
	case r.truncated:
		return starttls.ErrTruncated
	}
	return nil
}

// pass gives the client's next bytes to the backend, and returns the replies.
func (r *reference) pass(n int) string {
	part := r.client[:n]
	r.client = r.client[n:]
	r.toBackend = append(r.toBackend, part...)
	return string(r.model.feed(part))
}

func (r *reference) line() {
	n := bytes.IndexByte(r.client, '\n') + 1
	if n == 0 && len(r.client) < longestLine {
		r.client, r.truncated = nil, true
		return
	}
	if n == 0 || n > longestLine {
		r.pipe()
		return
	}
	line := r.client[:n]
	if reply := refusalOf(line, r.kind); reply != "" && !r.auth {
		r.client = r.client[n:]
		if r.kind&plainText != 0 && strings.HasPrefix(reply, "503") {
			if r.startTLS = strings.EqualFold(strings.Trim(string(line), " \t\r\n"), "STARTTLS"); r.startTLS {
				r.toClient = append(r.toClient, ready...)
				return
			}
			reply = "501 5.5.4 Syntax: STARTTLS"
		}
		r.toClient = append(r.toClient, reply+" ("+testID+")\r\n"...)
		r.refused = strings.HasPrefix(reply, "554")
		return
	}
	verb := verbOf(line)
	switch {
	case bytes.Count(line, []byte("\r")) != 1 || !bytes.HasSuffix(line, []byte("\r\n")):
		r.pipe()
	case r.auth && bytes.Contains(line, []byte(" ")):
		r.pipe()
	case len(trimFiller(line)) == 0 && !r.auth:
		r.pipe()
	case verb == "BDAT" && !r.auth:
		r.chunk(line)
	default:
		r.command(verb, n)
	}
}

func (r *reference) command(verb string, n int) {
	auth := r.auth
	reply := r.pass(n)
	if !auth && (verb == "EHLO" || verb == "HELO") {
		if verb == "EHLO" {
			reply = filtered(reply, r.kind)
		}
		r.chunks = strings.Contains(reply, "CHUNKING")
	}
	r.toClient = append(r.toClient, reply...)
	r.auth = (auth || verb == "AUTH") && strings.HasPrefix(reply, "334")
	if !auth && strings.HasPrefix(reply, "354") {
		if r.kind&withTrace != 0 {
			r.traces = append(r.traces, len(r.toBackend))
		}
		r.message()
	}
}

var chunkCommand = regexp.MustCompile(`^(?i:BDAT) (0|[1-9][0-9]*)(?i:( LAST))?\r\n$`)

func (r *reference) chunk(line []byte) {
	r.bdat = true
	match := chunkCommand.FindSubmatch(line)
	if match == nil || !r.chunks {
		r.pipe()
		return
	}
	size, err := strconv.ParseInt(string(match[1]), 10, 32)
	if err != nil {
		r.pipe()
		return
	}
	whole := len(line) + int(size)
	r.truncated = len(r.client) < whole
	r.toClient = append(r.toClient, r.pass(min(whole, len(r.client)))...)
	if match[2] != nil && !r.truncated {
		r.messages++
	}
}

var anyEnd = regexp.MustCompile(`[\r\n]\x00*\.\x00*(?:\r\n|[\r\n])`)

// message passes a message on, and becomes a pipe where one may end for some.
func (r *reference) message() {
	const start = "\r\n"
	whole := append([]byte(start), r.client...)
	at := anyEnd.FindIndex(whole)
	if at == nil || at[1] == len(whole) && whole[at[1]-1] == '\r' && bytes.HasSuffix(whole[:at[1]], []byte("\r\n.\r")) {
		r.truncated = true
		r.toClient = append(r.toClient, r.pass(len(r.client))...)
		return
	}
	if bytes.HasSuffix(whole[:at[1]], []byte("\r\n.\r\n")) && whole[at[0]] == '\n' {
		r.messages++
		r.toClient = append(r.toClient, r.pass(at[1]-len(start))...)
		return
	}
	r.toClient = append(r.toClient, r.pass(at[1]-len(start))...)
	r.pipe()
}

// pipe passes all that is left, but ends the session at a hidden command.
func (r *reference) pipe() {
	switch at, found := hidden(r.client, r.bdat, r.kind); {
	case found:
		r.refused, r.cut = true, true
		r.pass(at)
	default:
		r.truncated = at < len(r.client)
		r.toClient = append(r.toClient, r.pass(at)...)
	}
	r.client, r.auth = nil, false
}

// hidden returns where a command begins that must not pass, or where what may
// be one begins at the end of p. With chunks a command may begin at any octet.
func hidden(p []byte, chunks bool, k kind) (at int, found bool) {
	verbs := []string{"STARTTLS", "XCLIENT", "XCL\u0131ENT", "XFORWARD", "PROXY", "BDAT"}
	if k&plainText != 0 {
		verbs = append(verbs, "AUTH")
	}
	for i := range p {
		line := p[i:]
		starts := i == 0 || p[i-1] == '\r' || p[i-1] == '\n'
		if starts {
			line = trimFiller(line)
		} else if !chunks {
			continue
		}
		at := len(p) - len(line)
		for _, verb := range verbs {
			if !starts && verb[0] != 'X' && verb != "AUTH" && verb != "PROXY" {
				continue
			}
			n := len(verb)
			if len(line) <= n {
				if len(line) > 0 && bytes.EqualFold(line, []byte(verb)[:len(line)]) {
					return at, false
				}
				continue
			}
			if !hasVerb(line, verb) {
				continue
			}
			if verb == "BDAT" {
				chunks = true
				continue
			}
			if verb == "AUTH" || verb == "PROXY" {
				if len(trimFiller(line[n:n+1])) == 0 {
					return at, true
				}
				continue
			}
			if verb == "STARTTLS" && line[n] == ' ' && len(line) == n+1 {
				return at, false
			}
			if verb != "STARTTLS" || line[n] != ' ' || line[n+1] <= ' ' {
				return at, true
			}
		}
	}
	return len(p), false
}

func refusalOf(line []byte, k kind) string {
	line = trimFiller(line)
	switch {
	case hasVerb(line, "AUTH") && k&plainText != 0:
		return "530 5.7.0 Must issue a STARTTLS command first"
	case hasVerb(line, "STARTTLS"):
		return "503 5.5.1 TLS is already active"
	case hasVerb(line, "XCLIENT"), hasVerb(line, "XCL\u0131ENT"), hasVerb(line, "XFORWARD"), hasVerb(line, "PROXY"):
		return "502 5.5.1 Command not implemented"
	}
	switch verbOf(line) {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "PRI", "TRACE":
		return "554 5.5.1 This is an SMTP server"
	}
	return ""
}

func trimFiller(line []byte) []byte {
	for len(line) > 0 && (line[0] <= ' ' || line[0] >= 0x7f) {
		line = line[1:]
	}
	return line
}

// hasVerb tells whether the line begins with the verb and no letter follows.
func hasVerb(line []byte, verb string) bool {
	n := len(verb)
	return len(line) > n && bytes.EqualFold(line[:n], []byte(verb)) &&
		(line[n] < 'A' || line[n] > 'Z' && line[n] < 'a' || line[n] > 'z')
}

func verbOf(line []byte) string {
	line = trimFiller(line)
	for i, c := range line {
		if c <= ' ' {
			return string(bytes.ToUpper(line[:i]))
		}
	}
	return ""
}

// filtered is a reply to EHLO as the client may see it.
func filtered(reply string, k kind) string {
	if !strings.HasPrefix(reply, "250") {
		return reply
	}
	var kept []string
	for i, line := range strings.Split(strings.TrimSuffix(reply, "\r\n"), "\r\n") {
		words := strings.Fields(strings.ToUpper(line[4:]))
		switch {
		case i == 0:
		case words[0] == "STARTTLS", words[0] == "XCLIENT", words[0] == "XFORWARD":
			continue
		case k&withTrace != 0 && (words[0] == "CHUNKING" || words[0] == "BINARYMIME"):
			continue
		case k&plainText != 0 && (words[0] == "AUTH" || words[0] == "REQUIRETLS"):
			continue
		case words[0] == "AUTH" && strings.Contains(line, "-PLUS"):
			line = regexp.MustCompile(` \S+-PLUS`).ReplaceAllString(line, "")
			if strings.HasSuffix(line, "AUTH") {
				continue
			}
		}
		kept = append(kept, line[4:])
	}
	if k&plainText != 0 {
		kept = append(kept, "STARTTLS")
	}
	last := len(kept) - 1
	var all strings.Builder
	for _, line := range kept[:last] {
		all.WriteString("250-" + line + "\r\n")
	}
	return all.String() + "250 " + kept[last] + "\r\n"
}
