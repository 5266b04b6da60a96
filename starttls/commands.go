package starttls

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// command is what a pending reply answers.
type command uint8

const (
	other command = iota
	ehlo
	mail
	reset
	data
	message // the end of the data, or the last chunk
	auth
)

// phase is what the client's next bytes are.
type phase uint8

const (
	inCommand phase = iota
	inData          // after 354
	inChunk         // after BDAT
	inAuth          // the answer to a 334
)

// window is the part of the client's stream that was read and is not done.
type window struct {
	buf  []byte
	pos  int // followed up to here
	sent int // passed on up to here; beyond pos only while looking ahead
	end  int // read up to here
}

// CopyCommands passes the client's bytes on to the backend until the client
// ends its stream, and then returns nil, or ErrTruncated. A line that was cut
// is dropped: in crypto/tls an attacker's FIN looks like the client's own end.
func (f *Filter) CopyCommands() error {
	defer f.end()
	w := &f.window
	defer w.release()
	for {
		if err := w.read(f.client); err != nil {
			if !errors.Is(err, io.EOF) {
				return err
			}
			if !f.isLost() && (f.phase != inCommand || w.end > 0) {
				return ErrTruncated
			}
			return nil
		}
		if err := f.follow(w); err != nil {
			return err
		}
		w.compact()
	}
}

// read adds the client's next bytes. A buffer that was filled in one read is
// changed for a big one: bulk data is coming.
func (w *window) read(client io.Reader) error {
	if w.end == len(w.buf) {
		w.grow()
	}
	n, err := client.Read(w.buf[w.end:])
	w.end += n
	if n > 0 {
		return nil
	}
	return err
}

func (w *window) grow() {
	if len(w.buf) == bigBuffer {
		return
	}
	big := bigBuffers.Get().(*[bigBuffer]byte)[:]
	copy(big, w.buf[:w.end])
	w.buf = big
}

func (w *window) release() {
	if len(w.buf) == bigBuffer {
		bigBuffers.Put((*[bigBuffer]byte)(w.buf))
		w.buf = nil
	}
}

// compact moves what is left to the front.
func (w *window) compact() {
	full := w.end == len(w.buf)
	w.end = copy(w.buf, w.buf[w.pos:w.end])
	w.sent = max(w.sent-w.pos, 0)
	w.pos = 0
	if full {
		w.grow()
	}
}

// follow takes the bytes of the window as far as they can be understood, and
// passes them on.
func (f *Filter) follow(w *window) error {
	for w.pos < w.end {
		if err := f.caughtUp(w); err != nil {
			return err
		}
		switch {
		case f.isLost():
			w.pos = w.end
		case f.phase == inData:
			f.followData(w)
		case f.phase == inChunk:
			n := min(f.chunk, uint64(w.end-w.pos))
			f.chunk -= n
			w.pos += int(n)
			if f.chunk == 0 {
				f.phase = inCommand
			}
		default:
			whole, err := f.followLine(w)
			if err != nil {
				return err
			}
			if !whole {
				return f.pass(w, w.pos)
			}
		}
	}
	if err := f.pass(w, w.pos); err != nil {
		return err
	}
	return f.caughtUp(w)
}

// caughtUp ends the looking ahead once all that was passed on is followed, and
// keeps the number of pending commands bounded.
func (f *Filter) caughtUp(w *window) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ahead && w.pos >= w.sent {
		f.ahead = false
		f.changed.Broadcast()
	}
	if f.over {
		return ErrDrained
	}
	if len(f.pending) < maxPending || f.lost {
		return nil
	}
	f.mu.Unlock()
	err := f.pass(w, w.pos)
	f.mu.Lock()
	f.waitUntil(func() bool { return len(f.pending) < maxPending })
	return err
}

func (f *Filter) isLost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost
}

// pass writes the window up to the given place to the backend.
func (f *Filter) pass(w *window, upTo int) error {
	if upTo <= w.sent {
		return nil
	}
	part := w.buf[w.sent:upTo]
	w.sent = upTo
	_, err := f.backend.Write(part)
	return err
}

func (f *Filter) followData(w *window) {
	n, done := f.dot.scan(w.buf[w.pos:w.end])
	w.pos += n
	if done {
		f.phase = inCommand
		f.push(message)
	}
}

// followLine takes one line, a command or the answer to a 334. It reports
// false when the line is not whole yet.
func (f *Filter) followLine(w *window) (whole bool, err error) {
	rest := w.buf[w.pos:w.end]
	i := bytes.IndexByte(rest, '\n')
	switch {
	case i < 0 && len(rest) < maxCommandLine:
		return false, nil
	case i <= 0 || rest[i-1] != '\r':
		// Too long, or ended by a bare LF, which some backends take for a
		// line end and some do not.
		f.lose()
		return true, nil
	case f.phase == inAuth:
		return true, f.await(w, i+1, auth)
	}
	return true, f.followCommand(w, rest[:i+1])
}

func (f *Filter) followCommand(w *window, line []byte) error {
	var verb [8]byte
	switch v := string(verb[:upperVerb(&verb, line)]); {
	case v == "STARTTLS":
		return f.refuse(w, line, "503 5.5.1 TLS is already active")
	case v == "XCLIENT" || v == "XFORWARD":
		return f.refuse(w, line, "502 5.5.1 Command not implemented")
	case isHTTP(v):
		if err := f.refuse(w, line, "554 5.5.1 This is an SMTP server"); err != nil || f.isLost() {
			return err
		}
		return ErrRefused
	case v == "DATA":
		return f.await(w, len(line), data)
	case v == "AUTH":
		return f.await(w, len(line), auth)
	case v == "BDAT":
		return f.followChunk(w, line)
	default:
		w.pos += len(line)
		f.push(commandOf(v))
		return nil
	}
}

func commandOf(verb string) command {
	switch verb {
	case "EHLO":
		return ehlo
	case "MAIL":
		return mail
	case "RSET", "HELO":
		return reset
	}
	return other
}

// upperVerb copies the first word of the line in upper case, and returns its
// length; 0 for one that is longer than any verb of interest. Backends may
// pass over leading blanks, and so does this.
func upperVerb(verb *[8]byte, line []byte) int {
	line = bytes.TrimLeft(line, " \t")
	for i, c := range line {
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			return i
		case i == len(verb):
			return 0
		case 'a' <= c && c <= 'z':
			c -= 'a' - 'A'
		}
		verb[i] = c
	}
	return 0
}

// push notes that a reply will come.
func (f *Filter) push(c command) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = append(f.pending, c)
	f.changed.Broadcast()
}

// await passes on a command whose reply decides what the client's next bytes
// are, and waits for that reply. Whole lines that the client sent behind it
// without waiting go along, so that the backend sees that it did not wait.
func (f *Filter) await(w *window, length int, c command) error {
	f.push(c)
	w.pos += length
	if i := bytes.LastIndexByte(w.buf[w.pos:w.end], '\n'); i >= 0 {
		f.lookAhead()
		if err := f.pass(w, w.pos+i+1); err != nil {
			return err
		}
	}
	code, err := f.settle(w)
	switch {
	case c == data && code == 354:
		f.phase, f.dot = inData, endOfData{}
	case c == auth && code == 334:
		f.phase = inAuth
	default:
		f.phase = inCommand
	}
	return err
}

func (f *Filter) lookAhead() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ahead = true
}

// settle passes on all that was followed and waits until the client has every
// reply. It returns the code of the last one.
func (f *Filter) settle(w *window) (code int, err error) {
	if err := f.pass(w, w.pos); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waitUntil(func() bool { return len(f.pending) == 0 && !f.unwritten })
	if f.over {
		return 0, ErrDrained
	}
	return f.lastCode, nil
}

// refuse answers a command itself, after the replies to all before it.
func (f *Filter) refuse(w *window, line []byte, text string) error {
	if w.sent > w.pos {
		f.lose() // the backend has it already
		return nil
	}
	if _, err := f.settle(w); err != nil {
		return err
	}
	if f.isLost() {
		return nil
	}
	w.pos += len(line)
	w.sent = w.pos
	_, err := fmt.Fprintf(f.client, "%s (%s)\r\n", text, f.ID)
	return err
}

// followChunk takes a BDAT command. Its octets follow at once, whatever the
// reply (RFC 3030 section 2), but only if the backend knows the command.
func (f *Filter) followChunk(w *window, line []byte) error {
	if !f.takesChunks() {
		if _, err := f.settle(w); err != nil {
			return err
		}
	}
	size, last, ok := parseBDAT(line)
	if !ok || !f.takesChunks() {
		f.lose()
		return nil
	}
	if last {
		f.push(message)
	} else {
		f.push(other)
	}
	w.pos += len(line)
	if f.chunk = size; size > 0 {
		f.phase = inChunk
	}
	return nil
}

func (f *Filter) takesChunks() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.chunking
}

// parseBDAT reads "BDAT" SP size [SP "LAST"] CRLF, and nothing more lenient.
func parseBDAT(line []byte) (size uint64, last, ok bool) {
	argument, found := bytes.CutPrefix(line[len("BDAT"):len(line)-len("\r\n")], []byte(" "))
	number, tail, isTail := bytes.Cut(argument, []byte(" "))
	if isTail && !bytes.EqualFold(tail, []byte("LAST")) {
		return 0, false, false
	}
	size, err := strconv.ParseUint(string(number), 10, 64)
	if !found || err != nil || size > math.MaxInt64 {
		return 0, false, false
	}
	return size, isTail, true
}

// endOfData finds CRLF "." CRLF in a message that comes in parts. The zero
// value stands behind the CRLF of the DATA command.
type endOfData struct {
	tail    [4]byte // the last bytes of the parts before
	n       int
	started bool
}

var dotLine = []byte("\r\n.\r\n")

// scan returns how many bytes of the part belong to the message, its end
// included, and whether the end is there.
func (d *endOfData) scan(part []byte) (n int, done bool) {
	if !d.started {
		d.started = true
		d.n = copy(d.tail[:], "\r\n")
	}
	var joint [8]byte
	m := copy(joint[:], d.tail[:d.n])
	m += copy(joint[m:], part[:min(len(part), len(dotLine)-1)])
	if i := bytes.Index(joint[:m], dotLine); i >= 0 {
		return i + len(dotLine) - d.n, true
	}
	if i := bytes.Index(part, dotLine); i >= 0 {
		return i + len(dotLine), true
	}
	// The joint holds all of a short part, and the tail of a long one is its own.
	last := joint[:m]
	if len(part) > len(d.tail) {
		last = part
	}
	d.n = copy(d.tail[:], last[max(len(last)-len(d.tail), 0):])
	return len(part), false
}
