package starttls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

const (
	// maxLine is the longest command accepted before TLS, CRLF included. RFC
	// 5321 section 4.5.3.1.4 asks for 512; clients with long names send more.
	maxLine = 2048
	// maxPlainBytes is all that a client may send before TLS. A client that
	// means well sends under a hundred bytes.
	maxPlainBytes = 64 << 10
	// writeTimeout bounds the write of a reply of ours, which fits any socket
	// buffer: only a client that never reads meets it.
	writeTimeout = 30 * time.Second
	// recordTypeHandshake is the first byte of a ClientHello (RFC 8446 section
	// 5.1). No SMTP command begins with it.
	recordTypeHandshake = 0x16
)

// dialogue is one client's plain phase.
type dialogue struct {
	*Server
	ctx      context.Context
	conn     net.Conn
	id       string
	end      time.Time // when the whole phase must be over; zero for never
	in       [maxLine]byte
	n        int // bytes of in that were read and not yet taken
	out      []byte
	deaf     bool // a reply could not be written: the client gets no other
	total    int
	commands int
	errors   int
}

func (d *dialogue) run() error {
	d.reply("220 %s ESMTP ready (%s)", d.Hostname, d.id)
	for {
		line, err := d.readLine()
		if err != nil {
			return d.bye(err)
		}
		d.commands++
		done, err := d.command(line)
		if err == nil && !done {
			err = d.overLimit()
		}
		if !done && err == nil {
			continue
		}
		if flushErr := d.flush(); err == nil {
			err = flushErr
		}
		return err
	}
}

// readLine returns the next command without its line end, and a nil line in
// place of one that was too long. Replies are sent before it waits for the
// client, so that a pipelined group is answered in one segment (RFC 2920). A
// bare LF ends a command as well: nobody else reads these bytes, who could
// take them in another way.
func (d *dialogue) readLine() ([]byte, error) {
	tooLong := false
	deadline := d.deadline()
	for {
		if d.n > 0 && d.in[0] == recordTypeHandshake && !tooLong {
			return nil, ErrTLSRecord
		}
		if i := bytes.IndexByte(d.in[:d.n], '\n'); i >= 0 {
			line := bytes.Clone(bytes.TrimSuffix(d.in[:i], []byte("\r")))
			d.n = copy(d.in[:], d.in[i+1:d.n])
			if tooLong {
				return nil, nil
			}
			return line, nil
		}
		if d.n == len(d.in) {
			tooLong, d.n = true, 0
		}
		if err := d.flush(); err != nil {
			return nil, err
		}
		if err := d.conn.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
		if err := d.ctx.Err(); err != nil {
			return nil, err // or the line above would have undone Negotiate's interrupt
		}
		n, err := d.conn.Read(d.in[d.n:])
		d.n += n
		d.total += n
		if d.total > maxPlainBytes {
			return nil, ErrTooMuch
		}
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// deadline is when the next command must be there. It does not move with the
// command's bytes, however slowly they come.
func (d *dialogue) deadline() time.Time {
	if d.end.IsZero() {
		return d.end
	}
	deadline := time.Now().Add(d.idleTimeout())
	if deadline.After(d.end) {
		return d.end
	}
	return deadline
}

// bye sends the reply that belongs to the end of the phase, if any.
func (d *dialogue) bye(err error) error {
	switch {
	case d.ctx.Err() != nil:
		err = ErrShutdown
		d.reply("421 4.3.2 %s shutting down (%s)", d.Hostname, d.id)
	case errors.Is(err, os.ErrDeadlineExceeded):
		d.reply("421 4.4.2 %s timeout, closing connection (%s)", d.Hostname, d.id)
	case errors.Is(err, ErrTooMuch):
		d.reply("421 4.7.0 %s too much before STARTTLS (%s)", d.Hostname, d.id)
	case errors.Is(err, io.EOF), errors.Is(err, ErrTLSRecord):
		d.out = nil // nobody there who could read a reply
	}
	d.flush() // the session ends with err in any case
	return err
}

func (d *dialogue) overLimit() error {
	switch {
	case d.maxCommands() > 0 && d.commands >= d.maxCommands():
		d.reply("421 4.7.0 %s too many commands before STARTTLS (%s)", d.Hostname, d.id)
		return ErrTooMuch
	case d.maxErrors() > 0 && d.errors >= d.maxErrors():
		d.reply("421 4.7.0 %s too many errors (%s)", d.Hostname, d.id)
		return ErrTooManyErrors
	}
	return nil
}

// command answers one line. It reports true when STARTTLS was granted.
func (d *dialogue) command(line []byte) (upgraded bool, err error) {
	if line == nil {
		d.refuse("500 5.5.2 Line too long")
		return false, nil
	}
	verb, argument := splitCommand(line)
	switch {
	case verb == "STARTTLS":
		return d.startTLS(argument)
	case verb == "QUIT":
		d.reply("221 2.0.0 %s closing connection", d.Hostname)
		return false, ErrQuit
	case isHTTP(verb):
		d.refuse(refuseHTTP)
		return false, ErrHTTP
	case verb == "EHLO" || verb == "HELO":
		d.hello(verb, argument)
	case verb == "NOOP" || verb == "RSET":
		d.reply("250 2.0.0 Ok")
	case verb == "HELP":
		d.reply("214 2.0.0 Commands before TLS: EHLO HELO HELP NOOP QUIT RSET STARTTLS")
	case verb == "":
		d.refuse("500 5.5.2 Syntax error, command unrecognized")
	default:
		d.refuse("530 5.7.0 Must issue a STARTTLS command first")
	}
	return false, nil
}

func (d *dialogue) startTLS(argument string) (bool, error) {
	switch {
	case argument != "":
		d.refuse("501 5.5.4 Syntax: STARTTLS")
		return false, nil
	case d.n > 0:
		d.refuse("503 5.5.1 No command may follow STARTTLS in its group")
		return false, ErrInjection
	case d.TLSAvailable != nil && !d.TLSAvailable():
		d.refuse("454 4.7.0 TLS not available due to local problem")
		return false, nil
	}
	d.reply("220 2.0.0 Ready to start TLS")
	return true, nil
}

func (d *dialogue) hello(verb, argument string) {
	switch {
	case argument == "":
		d.refuse("501 5.5.4 Syntax: " + verb + " hostname")
	case verb == "HELO":
		d.reply("250 %s", d.Hostname)
	default:
		// STARTTLS is never the first line (some appliances overlook it
		// there) and a reply has one last line.
		d.reply("250-%s", d.Hostname)
		for _, keyword := range d.Keywords {
			if forPlain(keyword) {
				d.reply("250-%s", keyword)
			}
		}
		d.reply("250 STARTTLS")
	}
}

// forPlain tells whether a keyword may be offered before TLS: a client that
// saw AUTH might send its password in the clear.
func forPlain(keyword string) bool {
	if keyword == "" || strings.ContainsFunc(keyword, func(r rune) bool { return r < ' ' }) {
		return false
	}
	name := keyword
	if i := strings.IndexAny(keyword, " ="); i >= 0 {
		name = keyword[:i]
	}
	switch strings.ToUpper(name) {
	case "STARTTLS", "AUTH", "REQUIRETLS", "XCLIENT", "XFORWARD":
		return false
	}
	return true
}

// refuse sends a reply that counts as the client's error. Text of the
// client's never stands in it.
func (d *dialogue) refuse(text string) {
	d.errors++
	d.reply("%s (%s)", text, d.id)
}

func (d *dialogue) reply(format string, arguments ...any) {
	d.out = append(fmt.Appendf(d.out, format, arguments...), "\r\n"...)
}

func (d *dialogue) flush() error {
	if len(d.out) == 0 || d.deaf {
		return nil
	}
	if err := d.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := d.conn.Write(d.out)
	d.out = d.out[:0]
	d.deaf = err != nil
	return err
}

// splitCommand gives the verb in upper case and the text behind it. The verb
// is "" where the line does not begin with a word of ASCII letters.
func splitCommand(line []byte) (verb, argument string) {
	word, rest, _ := bytes.Cut(bytes.TrimLeft(line, " \t"), []byte(" "))
	for _, c := range word {
		if !isLetter(c) {
			return "", ""
		}
	}
	return strings.ToUpper(string(word)), string(bytes.Trim(rest, " \t"))
}

// isHTTP knows the methods with which a cross-protocol attack begins (ALPACA).
func isHTTP(verb string) bool {
	switch verb {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "PRI", "TRACE":
		return true
	}
	return false
}
