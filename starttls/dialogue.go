package starttls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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
	identity Identity
	ctx      context.Context
	conn     net.Conn
	id       string
	end      time.Time // when the whole phase must be over; zero for never
	in       [maxLine]byte
	n        int    // bytes of in that were read and not yet taken
	line     []byte // the last command, as it came
	hello    []byte // the last EHLO or HELO that was answered with 250
	out      []byte
	deaf     bool // a reply could not be written: the client gets no other
	total    int
	commands int
	errors   int
}

// next is what a command leads to.
type next uint8

const (
	another   next = iota // command is awaited
	handshake             // STARTTLS was granted
	backend               // the command is for a backend
)

// run answers commands until one of them ends the phase. Behind an error the
// caller ends the session.
func (d *dialogue) run() (*Plaintext, error) {
	if err := d.awaitSilence(); err != nil {
		return nil, d.bye(err)
	}
	d.reply("220 %s ESMTP ready (%s)", d.identity.Hostname, d.id)
	for {
		line, err := d.readLine()
		if err != nil {
			return nil, d.bye(err)
		}
		d.commands++
		then, err := d.command(line)
		if err == nil && then == another {
			err = d.overLimit()
		}
		if then == another && err == nil {
			continue
		}
		if flushErr := d.flush(); err == nil {
			err = flushErr
		}
		if err != nil || then != backend {
			return nil, err
		}
		return d.plaintext(), nil
	}
}

// awaitSilence holds the greeting back, and finds out who does not wait for it.
func (d *dialogue) awaitSilence() error {
	if d.GreetDelay <= 0 {
		return nil
	}
	if err := d.conn.SetReadDeadline(time.Now().Add(d.GreetDelay)); err != nil {
		return err
	}
	if err := d.ctx.Err(); err != nil {
		return err // or the line above would have undone Negotiate's interrupt
	}
	n, err := d.conn.Read(d.in[:])
	switch {
	case n > 0 && d.in[0] == recordTypeHandshake:
		return ErrTLSRecord
	case n > 0:
		return ErrEarlyTalker
	case errors.Is(err, os.ErrDeadlineExceeded):
		return d.ctx.Err()
	}
	return err
}

// plaintext is how the session goes on without TLS.
func (d *dialogue) plaintext() *Plaintext {
	return &Plaintext{
		Hello:        d.hello,
		Pending:      append(d.line, d.in[:d.n]...),
		TLSAvailable: d.TLSAvailable,
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
			d.line = bytes.Clone(d.in[:i+1])
			d.n = copy(d.in[:], d.in[i+1:d.n])
			if tooLong {
				return nil, nil
			}
			return bytes.TrimSuffix(d.line[:i], []byte("\r")), nil
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
		d.reply("421 4.3.2 %s shutting down (%s)", d.identity.Hostname, d.id)
	case errors.Is(err, os.ErrDeadlineExceeded):
		d.reply("421 4.4.2 %s timeout, closing connection (%s)", d.identity.Hostname, d.id)
	case errors.Is(err, ErrTooMuch):
		d.reply("421 4.7.0 %s too much before STARTTLS (%s)", d.identity.Hostname, d.id)
	case errors.Is(err, ErrEarlyTalker):
		d.reply("554 5.5.0 %s you must wait for the greeting (%s)", d.identity.Hostname, d.id)
	case errors.Is(err, io.EOF), errors.Is(err, ErrTLSRecord):
		d.out = nil // nobody there who could read a reply
	}
	d.flush() // the session ends with err in any case
	return err
}

func (d *dialogue) overLimit() error {
	switch {
	case d.maxCommands() > 0 && d.commands >= d.maxCommands():
		d.reply("421 4.7.0 %s too many commands before STARTTLS (%s)", d.identity.Hostname, d.id)
		return ErrTooMuch
	case d.maxErrors() > 0 && d.errors >= d.maxErrors():
		d.reply("421 4.7.0 %s too many errors (%s)", d.identity.Hostname, d.id)
		return ErrTooManyErrors
	}
	return nil
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
