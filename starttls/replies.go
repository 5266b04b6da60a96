package starttls

import (
	"errors"
	"io"
)

// CopyReplies passes the backend's bytes on to the client until the backend
// ends its stream, and then returns nil. It never completes a reply that was
// cut.
func (f *Filter) CopyReplies() error {
	defer f.end()
	buf := make([]byte, smallBuffer)
	for {
		n, err := f.backend.Read(buf)
		for part := buf[:n]; len(part) > 0; {
			used, ferr := f.reply(part)
			if ferr != nil {
				return ferr
			}
			part = part[used:]
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			_, err = f.client.Write(f.ehlo)
			return err
		default:
			return err
		}
	}
}

// reply passes on as many bytes of the part as can be judged together, and
// returns how many that were.
func (f *Filter) reply(part []byte) (used int, err error) {
	out, used, err := f.judge(part)
	if err != nil {
		return 0, err
	}
	if len(out) > 0 {
		if _, err := f.client.Write(out); err != nil {
			return 0, err
		}
	}
	return used, f.written()
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
			f.waitUntil(func() bool { return len(f.pending) > 0 || !f.ahead })
		}
		if f.over {
			return nil, 0, ErrDrained
		}
		if f.lost {
			out = append(f.ehlo, part...)
			f.ehlo = nil
			return out, len(part), nil
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

// judgeEHLO adds a piece to the reply to EHLO, and returns the reply once it
// is whole.
func (f *Filter) judgeEHLO(piece []byte, code int) (out []byte, used int, err error) {
	f.ehlo = append(f.ehlo, piece...)
	if code == 0 {
		if len(f.ehlo) > maxEHLOReply {
			return nil, 0, ErrEHLOTooLong
		}
		return nil, len(piece), nil
	}
	out, f.ehlo = f.ehlo, nil
	if code == 250 {
		out = filterEHLO(out)
		f.chunking = hasKeyword(out, "CHUNKING")
	}
	f.complete(code)
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
		return
	}
	c := f.pending[0]
	f.pending = f.pending[:copy(f.pending, f.pending[1:])]
	done := code/100 == 2
	switch c {
	case ehlo, reset:
		f.transaction = f.transaction && !done
	case mail:
		f.transaction = f.transaction || done
	case message:
		f.transaction = false
		if done && f.Message != nil {
			f.Message()
		}
	case auth:
		f.exchange = code == 334
	}
	if code == 354 && c != data || code == 334 && c != auth {
		f.setLost()
	}
}

// written tells the other direction that the client has its replies, and ends
// a session that was only waiting for that.
func (f *Filter) written() error {
	f.mu.Lock()
	f.unwritten = false
	drained := f.drainable() && f.first
	f.over = f.over || drained
	f.changed.Broadcast()
	f.mu.Unlock()
	if drained {
		f.sayDrained()
		return ErrDrained
	}
	return nil
}
