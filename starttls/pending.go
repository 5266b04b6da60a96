package starttls

import (
	"bytes"
	"fmt"
)

// command is what a pending reply answers.
type command uint8

const (
	other command = iota
	ehlo
	helo
	mail
	rset
	data
	chunk   // of BDAT, but the last
	message // the end of the data, or the last chunk
	auth
)

// push notes that a reply will come. It must be called before the command is
// passed on.
func (f *Filter) push(c command) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over != nil {
		return f.over
	}
	f.pending = append(f.pending, c)
	f.begun = f.begun && c != message
	if c == ehlo || c == helo {
		f.chunking = false // until the reply offers it: Exim forgets it as well
	}
	f.changed.Broadcast()
	return nil
}

// caughtUp ends the looking ahead once all that was passed on is followed, and
// keeps the number of pending commands bounded.
func (f *Filter) caughtUp() error {
	w := &f.window
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ahead && w.pos >= w.sent {
		f.ahead = false
		f.changed.Broadcast()
	}
	if f.over != nil || len(f.pending) < maxPending || f.lost {
		return f.over
	}
	f.mu.Unlock()
	err := f.pass(w.pos)
	f.mu.Lock()
	if err != nil {
		return err
	}
	return f.waitUntil(func() bool { return len(f.pending) < maxPending })
}

func (f *Filter) isLost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost
}

// lose makes the session a plain pipe. The commands so far still get their
// replies as usual: what the client did to lose the filter must not show it
// what a reply to EHLO hides.
func (f *Filter) lose() error {
	if _, err := f.settle(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setLost()
	return nil
}

// pass writes the window up to the given place to the backend.
func (f *Filter) pass(upTo int) error {
	w := &f.window
	if upTo <= w.sent {
		return nil
	}
	part := w.buf[w.sent:upTo]
	w.sent = upTo
	_, err := f.backend.Write(part)
	return err
}

// await passes on a command whose reply decides what the client's next bytes
// are, and waits for that reply.
func (f *Filter) await(length int, c command) error {
	w := &f.window
	if err := f.push(c); err != nil {
		return err
	}
	w.pos += length
	upTo := w.pos
	if c == auth || f.config.Trace == nil { // which comes before the client's first line
		upTo = f.lookAhead()
	}
	if err := f.pass(upTo); err != nil {
		return err
	}
	code, err := f.settle()
	switch {
	case c == data && code == 354:
		f.phase, f.data = inData, endOfData{}
		err = f.trace()
	case c == auth && code == 334:
		f.phase = inAuth
	default:
		f.phase = inCommand
	}
	return err
}

// lookAhead returns up to where the window may be passed on while the reply to
// the command in front of pos is awaited. One line that the client sent behind
// it without waiting goes along, so that a backend that does not suffer that
// (Postfix: reject_unauth_pipelining) still sees it. It is one that may be a
// command or the first line of a message. More than one could fill both
// directions with replies that are not read yet.
func (f *Filter) lookAhead() (upTo int) {
	w := &f.window
	rest := w.buf[w.pos:w.end]
	line := rest[:bytes.IndexByte(rest, '\n')+1]
	look := f.guard // the session may be a plain pipe when the reply is there
	if n, _ := look.scan(line); n < len(line) || !isCommandLine(line) || f.refusalOf(line) != "" {
		return w.pos
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ahead = true
	return w.pos + len(line)
}

// settle passes on all that was followed and waits until the client has every
// reply. It returns the code of the last one, 0 where the session is a plain
// pipe.
func (f *Filter) settle() (code int, err error) {
	if err := f.pass(f.window.pos); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.waitUntil(f.isSettled); err != nil || f.lost {
		return 0, err
	}
	return f.lastCode, nil
}

// isSettled needs mu.
func (f *Filter) isSettled() bool { return len(f.pending) == 0 && f.first && !f.unwritten }

// refuse answers a line in place of the backend.
func (f *Filter) refuse(line []byte, reply string) error {
	var reason error
	switch {
	case reply == refuseHTTP:
		reason = errHTTP
	case f.config.Plaintext != nil && reply == tlsActive:
		reply, reason = f.startTLS(line)
	}
	if reply != readyForTLS {
		reply = fmt.Sprintf("%s (%s)", reply, f.config.ID)
	}
	return f.answer(len(line), reply, reason)
}

// answer gives a line a reply of the filter's own, behind the replies to all
// before it. A reason ends the session with that: no byte of the backend's
// follows.
func (f *Filter) answer(length int, reply string, reason error) error {
	w := &f.window
	if err := f.pass(w.pos); err != nil {
		return err
	}
	f.mu.Lock()
	if err := f.waitUntil(f.isSettled); err != nil || f.lost {
		defer f.mu.Unlock()
		return err
	}
	f.answering, f.over = true, reason
	f.mu.Unlock()

	w.pos += length
	w.sent = w.pos
	_, err := fmt.Fprintf(f.client, "%s\r\n", reply)
	if reason != nil && (err == nil || reason != ErrSTARTTLS) {
		return reason
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.answering = false
	f.mu.Unlock()
	return f.atRest()
}
