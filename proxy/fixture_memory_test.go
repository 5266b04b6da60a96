package proxy_test

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// memoryPipe is a TCP connection in memory, for tests in a bubble of package
// synctest, where no goroutine may wait for the network. Like the kernel's it
// buffers a bounded number of bytes, can be closed by half, and resets the
// peer, which then loses what it had not read, when it is closed with bytes
// unread or written to after that.
func memoryPipe(port, buffer int) (a, b *memoryConn) {
	ab, ba := newStream(buffer), newStream(buffer)
	server := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: port}
	client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 99), Port: 50000}
	a = &memoryConn{in: ba, out: ab, local: client, remote: server}
	b = &memoryConn{in: ab, out: ba, local: server, remote: client}
	return a, b
}

// memoryBuffer is what one direction holds, if the test has no other wish.
const memoryBuffer = 64 << 10

// stream is one direction.
type stream struct {
	mu       sync.Mutex
	changed  sync.Cond
	data     []byte
	buffer   int   // the most data
	ended    bool  // no more data will come
	readErr  error // what the reader gets at once
	writeErr error // what the writer gets at once
	read     limit
	write    limit
}

func newStream(buffer int) *stream {
	s := &stream{buffer: buffer}
	s.changed.L = &s.mu
	return s
}

// limit is a deadline.
type limit struct {
	passed bool
	timer  *time.Timer
}

// set needs the mutex of s.
func (l *limit) set(s *stream, t time.Time) {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.passed = false
	if t.IsZero() {
		return
	}
	if rest := time.Until(t); rest > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(rest, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if l.timer == timer {
				l.passed = true
				s.changed.Broadcast()
			}
		})
		l.timer = timer
		return
	}
	l.passed = true
	s.changed.Broadcast()
}

type memoryConn struct {
	in, out       *stream
	local, remote net.Addr
	closed        atomic.Bool // by this end
}

func (c *memoryConn) Read(p []byte) (int, error) {
	s := c.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readErr != nil:
			return 0, s.readErr
		case s.read.passed:
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0:
			n := copy(p, s.data)
			s.data = s.data[n:]
			s.changed.Broadcast()
			return n, nil
		case s.ended:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (c *memoryConn) Write(p []byte) (int, error) {
	n, err := c.out.take(p)
	if err == syscall.ECONNRESET {
		c.in.reset()
	}
	return n, err
}

func (s *stream) take(p []byte) (written int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writeErr != nil:
			return written, s.writeErr
		case s.ended:
			return written, syscall.EPIPE
		case s.write.passed:
			return written, os.ErrDeadlineExceeded
		}
		n := min(len(p), s.buffer-len(s.data))
		s.data = append(s.data, p[:n]...)
		p, written = p[n:], written+n
		s.changed.Broadcast()
		if len(p) == 0 {
			return written, nil
		}
		s.changed.Wait()
	}
}

// reset takes from the reader what it has not read.
func (s *stream) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr == nil {
		s.data, s.readErr = nil, syscall.ECONNRESET
		s.changed.Broadcast()
	}
}

// CloseWrite ends the direction to the peer.
func (c *memoryConn) CloseWrite() error {
	s := c.out
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writeErr != nil {
		return s.writeErr
	}
	s.ended = true
	s.changed.Broadcast()
	return nil
}

// Close resets the peer if it leaves bytes unread.
func (c *memoryConn) Close() error {
	c.closed.Store(true)
	reset := c.in.closeReader()
	c.out.closeWriter(reset)
	return nil
}

// Reset closes the connection as SO_LINGER of 0 does: the peer loses what it
// has not read.
func (c *memoryConn) Reset() {
	c.in.closeReader()
	c.out.closeWriter(true)
}

func (s *stream) closeReader() (reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr != nil {
		return false // closed already
	}
	reset = len(s.data) > 0
	s.data, s.readErr, s.writeErr = nil, net.ErrClosed, syscall.ECONNRESET
	s.read.set(s, time.Time{})
	s.changed.Broadcast()
	return reset
}

func (s *stream) closeWriter(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.writeErr == nil {
		s.writeErr = net.ErrClosed
	}
	if reset {
		s.data, s.readErr = nil, syscall.ECONNRESET
	}
	s.write.set(s, time.Time{})
	s.changed.Broadcast()
}

// SetDeadline sets both.
func (c *memoryConn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline limits Read.
func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.read.set(c.in, t)
	return nil
}

// SetWriteDeadline limits Write.
func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.write.set(c.out, t)
	return nil
}

// LocalAddr is this end's address.
func (c *memoryConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the other end's.
func (c *memoryConn) RemoteAddr() net.Addr { return c.remote }
