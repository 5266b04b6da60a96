package starttls

import (
	"errors"
	"io"
	"slices"
)

// maxEHLOReply bounds the reply to EHLO, which is held until it is whole.
const maxEHLOReply = 64 << 10

// CopyReplies passes the backend's bytes on to the client until the backend
// ends its stream, and then returns nil. It never completes a reply that was
// cut.
//
// Otherwise it returns ErrDrained, ErrEHLOTooLong, ErrHello, ErrRefused where
// CopyCommands did, or the error of a connection.
func (f *Filter) CopyReplies() error {
	defer f.end()
	var small [smallBuffer]byte
	buf := small[:]
	defer func() { giveBack(buf) }()
	for {
		n, err := f.backend.Read(buf)
		for part := buf[:n]; len(part) > 0; {
			used, err := f.reply(part)
			if err != nil {
				return err
			}
			part = part[used:]
		}
		if full := n == len(buf); full && n == smallBuffer {
			buf = bigBuffers.Get().(*[bigBuffer]byte)[:]
		} else if !full && len(buf) == bigBuffer {
			giveBack(buf)
			buf = small[:]
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return f.write(f.seen.hide(f.ehlo))
		default:
			return err
		}
	}
}

// reply passes on as many bytes of the part as can be judged together, and
// returns how many that were.
func (f *Filter) reply(part []byte) (used int, err error) {
	out, used, err := f.judge(part)
	if errors.Is(err, ErrEHLOTooLong) || errors.Is(err, ErrHello) {
		return 0, f.hangUp(err, "421 4.3.0 %s service not available, closing connection (%s)")
	}
	if err != nil {
		return 0, err
	}
	for ; f.taken > 0; f.taken-- {
		if f.config.Message != nil {
			f.config.Message()
		}
	}
	if err := f.write(out); err != nil {
		return 0, err
	}
	f.mu.Lock()
	f.unwritten = false
	f.mu.Unlock()
	return used, f.atRest()
}

func (f *Filter) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := f.client.Write(p)
	return err
}

// judge takes the replies of the part off pending, up to the end of a reply
// to EHLO, which it filters. It returns what is for the client.
func (f *Filter) judge(part []byte) (out []byte, used int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for used < len(part) {
		if f.first && len(f.pending) == 0 && f.ahead {
			if used > 0 {
				break // first let the client have what is judged
			}
			// The reply to the line ahead must wait until it is known what
			// that line is. errEnded: nobody will follow it any more.
			_ = f.waitUntil(func() bool { return len(f.pending) > 0 || !f.ahead })
		}
		if f.over != nil {
			return nil, 0, f.over
		}
		if f.lost {
			return f.judgePipe(part), len(part), nil
		}
		if f.first {
			f.hold = len(f.pending) > 0 && f.pending[0] == ehlo
			if f.hold && used > 0 {
				break
			}
		}
		n, code, err := f.parser.next(part[used:])
		f.first = code != 0
		if err != nil {
			if f.hold && f.config.Plaintext != nil {
				return nil, 0, ErrHello // or the client might see AUTH, and tell everyone its password
			}
			f.setLost()
			continue
		}
		if f.hold {
			return f.judgeEHLO(part[:n], code)
		}
		used += n
		if code != 0 {
			f.complete(code)
		}
	}
	return part[:used], used, nil
}

// judgePipe returns all bytes, behind what was held of a reply to EHLO that
// is none, less what of that is not for clients.
func (f *Filter) judgePipe(part []byte) []byte {
	f.asked = false
	if len(f.ehlo) == 0 {
		return part
	}
	part = append(f.seen.hide(f.ehlo), part...)
	f.ehlo = nil
	return part
}

// judgeEHLO adds a piece to the reply to EHLO, and returns the reply once it
// is whole.
func (f *Filter) judgeEHLO(piece []byte, code int) (out []byte, used int, err error) {
	f.ehlo = append(f.ehlo, piece...)
	if len(f.ehlo) > maxEHLOReply {
		return nil, 0, ErrEHLOTooLong
	}
	if code == 0 {
		return nil, len(piece), nil
	}
	out, f.ehlo = f.ehlo, nil
	f.complete(code)
	if code == 250 {
		out = f.seen.filter(out)
		// A later EHLO or HELO of the same group decides for itself.
		f.chunking = hasKeyword(out, "CHUNKING") && !slices.Contains(f.pending, ehlo) && !slices.Contains(f.pending, helo)
	}
	return out, len(piece), nil
}

// complete takes the command that a reply answers off pending, and notes what
// the reply means for the session. It needs mu.
func (f *Filter) complete(code int) {
	f.lastCode = code
	f.unwritten = true
	if len(f.pending) == 0 {
		if code != 421 { // a backend may always say that it closes
			f.setLost()
		}
		f.begun = false
		return
	}
	c := f.pending[0]
	f.pending = f.pending[:copy(f.pending, f.pending[1:])]
	done := code/100 == 2
	switch c {
	case ehlo, helo, rset:
		f.transaction = f.transaction && !done
		f.begun = f.begun && !done
	case data:
		f.begun = code == 354
	case chunk:
		f.begun = done
	case mail:
		f.transaction = f.transaction || done
	case message:
		f.transaction, f.begun = false, false
		if done {
			f.taken++
		}
	case auth:
		f.exchange = code == 334
		f.authed = f.authed || code == 235
	}
	if code == 354 && c != data || code == 334 && c != auth {
		f.setLost()
	}
}
