package starttls_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// model is a backend whose replies depend on nothing but the bytes that it
// got, however they were cut. That makes the outcome of a session one value
// that a test can compare.
type model struct {
	lenient traits
	plain   bool // the client is in plain text
	buf     []byte
	state   string // "", "data", "auth"
	left    int    // answers to 334 to come
	mail    bool   // after MAIL
	skip    uint64 // octets of a chunk to come
	after   string // the reply to that chunk
	ehlos   int
	chunks  bool // the last EHLO offered CHUNKING
	bdat    bool // BDAT was seen

	// forged are the commands that the filter must have kept from it.
	forged []string
}

// traits are ways in which backends in the world differ from a strict one.
type traits uint16

const (
	bareLF      traits = 1 << iota // LF ends a line
	bareCR                         // so does CR
	dropNUL                        // NUL is no byte of a message's line
	noChunking                     // BDAT is an unknown command
	size32                         // keeps 32 bits of a chunk's size
	noReply                        // says nothing to an empty line
	unicode                        // trims and folds like languages do that know Unicode
	eagerData                      // DATA needs no MAIL
	unasked                        // gives two replies to NOOP, and so may be a command ahead of the filter
	odd                            // replies to HELP with what is no reply
	forgetsHELO                    // after HELO it knows no BDAT
	strict      traits = 0
	exact              = noChunking | eagerData | forgetsHELO // traits that a reference need not know of
)

// feed takes bytes and returns the replies to them.
func (m *model) feed(p []byte) (replies []byte) {
	m.buf = append(m.buf, p...)
	for {
		if m.skip > 0 {
			n := min(m.skip, uint64(len(m.buf)))
			m.buf, m.skip = m.buf[n:], m.skip-n
			if m.skip > 0 {
				return replies
			}
			replies = append(replies, m.after...)
		}
		line, rest, found := m.cutLine()
		if !found {
			return replies
		}
		m.buf = rest
		replies = append(replies, m.take(line)...)
	}
}

func (m *model) cutLine() (line, rest []byte, found bool) {
	for i, c := range m.buf {
		switch {
		case c == '\n' && (m.lenient&bareLF != 0 || i > 0 && m.buf[i-1] == '\r'):
			return bytes.TrimSuffix(m.buf[:i], []byte("\r")), m.buf[i+1:], true
		case c == '\r' && m.lenient&bareCR != 0:
			if i+1 == len(m.buf) {
				return nil, nil, false
			}
			return m.buf[:i], bytes.TrimPrefix(m.buf[i+1:], []byte("\n")), true
		}
	}
	return nil, nil, false
}

func (m *model) take(line []byte) string {
	switch m.state {
	case "data":
		if m.lenient&dropNUL != 0 {
			line = bytes.ReplaceAll(line, []byte{0}, nil)
		}
		if string(line) != "." {
			return ""
		}
		m.state, m.mail = "", false
		return "250 2.0.0 queued\r\n"
	case "auth":
		if m.left--; m.left > 0 {
			return "334 UGFzc3dvcmQ6\r\n"
		}
		m.state = ""
		return "235 2.7.0 welcome\r\n"
	}
	return m.command(string(line))
}

func (m *model) command(line string) string {
	if m.lenient&unicode != 0 {
		line = strings.TrimSpace(line)
	}
	verb, argument, _ := strings.Cut(strings.Trim(line, " \t"), " ")
	m.bdat = m.bdat || strings.EqualFold(verb, "BDAT")
	if m.lenient&unicode != 0 {
		verb = strings.ToUpper(verb)
	} else {
		verb = string(bytes.ToUpper([]byte(strings.ToValidUTF8(verb, "?"))))
	}
	switch {
	case verb == "" && m.lenient&noReply != 0:
		return ""
	case verb == "EHLO":
		m.ehlos++
		m.mail, m.chunks = false, m.lenient&noChunking == 0
		return m.keywords()
	case verb == "HELO" && m.lenient&forgetsHELO != 0:
		m.mail, m.chunks = false, false
	case verb == "HELO" || verb == "RSET":
		m.mail = false
	case verb == "MAIL":
		m.mail = true
	case verb == "DATA" && (m.mail || m.lenient&eagerData != 0):
		m.state = "data"
		return "354 go on\r\n"
	case verb == "DATA":
		return "503-5.5.1 no MAIL\r\n503 5.5.1 sorry\r\n"
	case verb == "AUTH" && m.plain:
		m.forged = append(m.forged, line)
		return "235 2.7.0 welcome\r\n"
	case verb == "AUTH" && strings.EqualFold(argument, "LOGIN"):
		m.state, m.left = "auth", 2
		return "334 VXNlcm5hbWU6\r\n"
	case verb == "BDAT" && m.chunks:
		return m.chunk(argument)
	case verb == "NOOP" && m.lenient&unasked != 0:
		return "250 2.0.0 ok\r\n250 2.0.0 and more\r\n"
	case verb == "NOOP" || verb == "RCPT":
	case verb == "HELP" && m.lenient&odd != 0:
		return "nothing\r\n\r\n"
	case verb == "STARTTLS" && m.bdat: // may stand behind what is a chunk for some
	case verb == "XCLIENT", verb == "XFORWARD", verb == "PROXY", verb == "STARTTLS" && strings.Trim(argument, " \t") == "":
		m.forged = append(m.forged, line)
		return "250 2.0.0 believed\r\n"
	default:
		return "500 5.5.2 what\r\n"
	}
	return "250 2.0.0 ok\r\n"
}

func (m *model) chunk(argument string) string {
	number, last, _ := strings.Cut(argument, " ")
	size, err := strconv.ParseUint(number, 10, 64)
	if m.lenient&size32 != 0 {
		size &= 1<<32 - 1
	}
	if err != nil || last != "" && !strings.EqualFold(last, "LAST") {
		return "501 5.5.4 syntax\r\n"
	}
	reply := fmt.Sprintf("250 2.0.0 %d octets\r\n", size)
	if size == 0 {
		return reply
	}
	m.skip, m.after = size, reply
	return ""
}

// keywords is the reply to EHLO, another one each time.
func (m *model) keywords() string {
	lines := []string{"backend.example Hello"}
	if m.chunks {
		lines = append(lines, "CHUNKING")
	}
	switch m.ehlos % 4 {
	case 1:
		lines = append(lines, "STARTTLS", "SIZE 1000", "XCLIENT NAME ADDR")
	case 2:
		lines = append(lines, "XFORWARD NAME", "AUTH SCRAM-SHA-256 SCRAM-SHA-256-PLUS PLAIN", "REQUIRETLS", "starttls", "BINARYMIME")
	case 3:
		lines = append(lines, "AUTH  LOGIN", "AUTH SCRAM-SHA-1-PLUS")
	}
	return "250-" + strings.Join(lines[:len(lines)-1], "\r\n250-") + "\r\n250 " + lines[len(lines)-1] + "\r\n"
}
