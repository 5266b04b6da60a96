package proxy

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// waitError is of a read that would have had to wait. To crypto/tls it is a
// timeout, behind which its next read goes on.
type waitError struct{}

func (waitError) Error() string   { return "nothing to read now" }
func (waitError) Timeout() bool   { return true }
func (waitError) Temporary() bool { return true }

var errWait net.Error = waitError{}

// ReadNow implements starttls.ReaderNow.
func (l *leg) ReadNow(p []byte) (int, error) {
	if l.now == nil {
		return 0, nil
	}
	l.now.waitless = true
	n, err := l.Conn.Read(p)
	l.now.waitless = false
	if errors.Is(err, errWait) {
		err = nil
	}
	l.used(err)
	return n, err
}

// readNow reads what the system has, or returns errWait.
func (c *clientConn) readNow(p []byte) (int, error) {
	if c.now == nil {
		c.now = newSocketReader(c.Conn)
	}
	return c.now.read(p)
}

// socketReader reads from a socket without waiting. It keeps what a read needs,
// so that none allocates.
type socketReader struct {
	raw   syscall.RawConn // nil where there is no socket
	once  func(fd uintptr) bool
	p     []byte
	n     int
	fault error
}

func newSocketReader(conn net.Conn) *socketReader {
	r := new(socketReader)
	if socket, ok := conn.(syscall.Conn); ok {
		if raw, err := socket.SyscallConn(); err == nil {
			r.raw = raw
		}
	}
	r.once = func(fd uintptr) bool {
		r.n, r.fault = unix.Read(int(fd), r.p)
		return true
	}
	return r
}

func (r *socketReader) read(p []byte) (int, error) {
	if r.raw == nil {
		return 0, errWait
	}
	r.p = p
	failed := r.raw.Read(r.once)
	r.p = nil
	switch {
	case failed != nil: // a deadline, or closed: the next read that waits tells
		return 0, errWait
	case r.fault == unix.EAGAIN, r.fault == unix.EINTR:
		return 0, errWait
	case r.fault != nil: // the system tells it once
		return 0, r.fault
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}
