package starttls

import (
	"bytes"
	"errors"
	"io"
)

// phase is what the client's next bytes are.
type phase uint8

const (
	inCommand phase = iota
	inData          // after 354
	inChunk         // after BDAT
	inAuth          // the answer to a 334
)

// maxCommandLine is the longest command that is followed. AUTH needs 12,288
// octets (RFC 4954 section 4.5.1); no other command needs more.
const maxCommandLine = 16 << 10

// CopyCommands passes the client's bytes on to the backend until the client
// ends its stream, and then returns nil, or ErrTruncated. A line that was cut
// is dropped: in crypto/tls an attacker's FIN looks like the client's own end.
// It returns nil as well when CopyReplies is done and a command waits for its
// reply, which will not come.
//
// Otherwise it returns ErrRefused, ErrInjection, ErrSTARTTLS, ErrDrained,
// ErrEHLOTooLong, ErrHello, or the error of a connection.
func (f *Filter) CopyCommands() error {
	defer f.end()
	w := &f.window
	defer func() { w.end = 0; w.release() }()
	for {
		if err := w.read(f.commands, f.phase == inData || f.phase == inChunk); err != nil {
			if errors.Is(err, io.EOF) {
				return f.endOfCommands()
			}
			return err
		}
		if err := f.follow(); err != nil {
			if errors.Is(err, errEnded) {
				return nil
			}
			return err
		}
		w.compact(f.phase == inCommand)
	}
}

func (f *Filter) endOfCommands() error {
	if f.window.end > 0 || f.phase != inCommand && !f.isLost() {
		return ErrTruncated
	}
	return nil
}

// follow takes the bytes of the window as far as they can be understood, and
// passes them on.
func (f *Filter) follow() error {
	w := &f.window
	for w.pos < w.end {
		if err := f.caughtUp(); err != nil {
			return err
		}
		from := w.pos
		wasLost := f.isLost()
		if err := f.step(); err != nil {
			return err
		}
		if w.pos == from && f.isLost() == wasLost {
			break // more bytes are needed
		}
	}
	if err := f.pass(w.pos); err != nil {
		return err
	}
	return f.caughtUp()
}

// step follows one piece of the window, as far as it is there.
func (f *Filter) step() error {
	w := &f.window
	rest := w.buf[w.pos:w.end]
	switch {
	case f.isLost():
		return f.stepPipe(rest)
	case f.phase == inData:
		n, found := f.data.scan(rest)
		w.pos += n
		switch found {
		case end:
			f.phase = inCommand
			return f.push(message)
		case looseEnd:
			return f.lose()
		}
	case f.phase == inChunk:
		n := min(f.chunk, uint64(len(rest)))
		f.chunk -= n
		w.pos += int(n)
		if f.chunk == 0 {
			f.phase = inCommand
		}
	default:
		return f.stepLine(rest)
	}
	return nil
}

func (f *Filter) stepPipe(rest []byte) error {
	w := &f.window
	f.phase = inCommand // as far as anybody knows
	n, found := f.guard.scan(rest)
	w.pos += n
	if w.pos > w.sent { // what went ahead may have its reply already
		f.mu.Lock()
		f.asked = true
		f.mu.Unlock()
	}
	if found {
		return f.hangUp(errHidden, "421 4.7.0 %s cannot tell a command from a message, closing connection (%s)")
	}
	return nil
}

// stepLine follows one line, a command or the answer to a 334.
func (f *Filter) stepLine(rest []byte) error {
	rest = rest[:min(len(rest), maxCommandLine)]
	n := bytes.IndexByte(rest, '\n') + 1
	if n == 0 && len(rest) < maxCommandLine {
		return nil
	}
	line := rest[:n]
	if f.phase != inAuth {
		if reply := f.refusalOf(line); reply != "" {
			return f.refuse(line, reply)
		}
	}
	switch {
	case !isCommandLine(line):
		// Too long, or with a bare CR or LF, which some backends take for a
		// line end and some do not.
		return f.lose()
	case f.phase == inAuth && bytes.IndexByte(line, ' ') < 0:
		return f.await(n, auth)
	case f.phase == inAuth: // but it is no base64 (RFC 4954 section 4)
		return f.lose()
	case isBlank(line):
		return f.lose()
	}
	return f.followCommand(line)
}

// refusalOf returns the reply to a line that is not for the backend, "" for
// any other.
func (f *Filter) refusalOf(line []byte) string {
	line = trimFiller(line)
	if reply, _ := f.refused.refusal(line); reply != "" {
		return reply
	}
	var verb [8]byte
	if isHTTP(string(verb[:upperVerb(&verb, line)])) {
		return refuseHTTP
	}
	return ""
}

func (f *Filter) followCommand(line []byte) error {
	var verb [8]byte
	c := other
	switch string(verb[:upperVerb(&verb, line)]) {
	case "DATA":
		return f.await(len(line), data)
	case "AUTH":
		return f.await(len(line), auth)
	case "BDAT":
		return f.followChunk(line)
	case "BURL": // RFC 4468: the backend fetches what is like a chunk itself
		if c = chunk; isLast(line) {
			c = message
		}
	case "EHLO":
		c = ehlo
	case "HELO":
		c = helo
	case "MAIL":
		c = mail
	case "RSET":
		c = rset
	}
	if f.config.Trace != nil && (c == ehlo || c == helo) {
		f.hello = string(line[:min(len(line), maxLine)])
	}
	f.window.pos += len(line)
	return f.push(c)
}

// followChunk takes a BDAT command. Its octets follow at once, whatever the
// reply (RFC 3030 section 2), but only if the backend knows the command.
func (f *Filter) followChunk(line []byte) error {
	w := &f.window
	f.guard.chunks = true
	if !f.takesChunks() {
		if _, err := f.settle(); err != nil {
			return err
		}
	}
	size, last, ok := parseBDAT(line)
	if !ok || !f.takesChunks() {
		return f.lose()
	}
	c := chunk
	if last {
		c = message
	}
	w.pos += len(line)
	if f.chunk = size; size > 0 {
		f.phase = inChunk
	}
	return f.push(c)
}

func (f *Filter) takesChunks() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chunking
}
