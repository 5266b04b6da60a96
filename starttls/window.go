package starttls

import (
	"io"
	"sync"
)

const (
	smallBuffer = 4 << 10  // what an idle session holds in each direction
	bigBuffer   = 64 << 10 // what a busy one borrows: four TLS records, or one of a socket's buffers
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

// ReaderNow is a connection that can be read without waiting, which
// [Filter.CopyCommands] makes use of with bulk data: crypto/tls reads one record
// at a time, and four of them in one write cost the backend and the system less.
// ReadNow returns 0 and no error where it would have to wait.
type ReaderNow interface {
	ReadNow(p []byte) (int, error)
}

// read adds the client's next bytes: as many as there are of bulk data, no more
// than a command line may have otherwise. There is always room: follow leaves
// less than that, and compact changes a full small buffer for a big one.
func (w *window) read(client io.Reader, bulk bool) error {
	room := w.buf[:min(len(w.buf), maxCommandLine)]
	if bulk {
		room = w.buf
	}
	n, err := client.Read(room[w.end:])
	w.end += n
	if n == 0 {
		return err
	}
	if now, ok := client.(ReaderNow); ok && len(room) == bigBuffer {
		for n > 0 && err == nil && w.end < len(room) {
			n, err = now.ReadNow(room[w.end:])
			w.end += n
		}
	}
	return nil // an error comes again
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
	giveBack(w.buf)
	w.buf = w.small[:]
}

// giveBack ends the use of a buffer, if it was borrowed.
func giveBack(buf []byte) {
	if len(buf) == bigBuffer {
		bigBuffers.Put((*[bigBuffer]byte)(buf))
	}
}
