package starttls_test

import (
	"bytes"
	"io"
	"net"
	"sync"
)

// stream is one direction of a connection, in memory and without bound. What
// was written in one call is read in one call, like a segment.
type stream struct {
	mu       sync.Mutex
	changed  sync.Cond
	segments [][]byte
	closed   bool
}

func newStream() *stream {
	s := &stream{}
	s.changed.L = &s.mu
	return s
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	s.segments = append(s.segments, bytes.Clone(p))
	s.changed.Broadcast()
	return len(p), nil
}

func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.segments) == 0 {
		if s.closed {
			return 0, io.EOF
		}
		s.changed.Wait()
	}
	n := copy(p, s.segments[0])
	if s.segments[0] = s.segments[0][n:]; len(s.segments[0]) == 0 {
		s.segments = s.segments[1:]
	}
	return n, nil
}

// take returns all that is there, without waiting.
func (s *stream) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := bytes.Join(s.segments, nil)
	s.segments = nil
	return all
}

// Close ends the stream. What was written can still be read.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
	return nil
}

// peer is the test's end of a connection: what it writes to out the other side
// reads, and what the other side wrote arrives in in.
type peer struct{ in, out *stream }

func newPeer() peer { return peer{newStream(), newStream()} }

// other is the other end, as the code under test holds it.
func (p peer) other() io.ReadWriter {
	return struct {
		io.Reader
		io.Writer
	}{p.out, p.in}
}

// dial gives the peer a connection that has deadlines. The pumps end when
// the connection is closed and out is.
func (p peer) dial(pumps *sync.WaitGroup) net.Conn {
	mine, theirs := net.Pipe()
	pumps.Go(func() {
		io.Copy(p.in, mine) // ends when the connection does
		p.in.Close()
	})
	pumps.Go(func() {
		io.Copy(mine, p.out)
		mine.Close()
	})
	return theirs
}
