package starttls

import (
	"io"
	"sync"
)

const (
	smallBuffer = 4 << 10  // what an idle session holds in each direction
	bigBuffer   = 16 << 10 // what a busy one borrows: the most that one TLS record brings
)

var bigBuffers = sync.Pool{New: func() any { return new([bigBuffer]byte) }}

// window is the part of the client's stream that was read and is not done.
type window struct {
	buf   []byte // small, or borrowed
	small [smallBuffer]byte
	pos   int // followed up to here
	sent  int // passed on up to here; beyond pos only while looking ahead
	end   int // read up to here
}

// read adds the client's next bytes. There is always room: follow leaves less
// than a whole buffer, and compact changes a full small one for a big one.
func (w *window) read(client io.Reader) error {
	n, err := client.Read(w.buf[w.end:])
	w.end += n
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// compact moves what is left to the front. A buffer that was filled is changed
// for a big one, because bulk data is coming; between two messages the big one
// goes back, so that idle sessions do not hold them.
func (w *window) compact(idle bool) {
	full := w.end == len(w.buf)
	w.end = copy(w.buf, w.buf[w.pos:w.end])
	w.sent = max(w.sent-w.pos, 0)
	w.pos = 0
	switch {
	case full && len(w.buf) < bigBuffer:
		big := bigBuffers.Get().(*[bigBuffer]byte)[:]
		copy(big, w.buf[:w.end])
		w.buf = big
	case idle && !full && w.end <= smallBuffer/2:
		w.release()
	}
}

// release gives a big buffer back. What is left must fit the small one.
func (w *window) release() {
	if len(w.buf) != bigBuffer {
		return
	}
	copy(w.small[:], w.buf[:w.end])
	bigBuffers.Put((*[bigBuffer]byte)(w.buf))
	w.buf = w.small[:]
}
