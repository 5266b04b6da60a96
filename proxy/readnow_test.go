package proxy_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// socketPair is two ends of a TCP connection.
func socketPair(t *testing.T) (ours, theirs *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	accepted, err := l.Accept()
	must(t, err)
	ours, theirs = accepted.(*net.TCPConn), conn.(*net.TCPConn)
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// readSoon reads until there is something, or an end.
func readSoon(t *testing.T, read func([]byte) (int, error)) (string, error) {
	t.Helper()
	var buf [64]byte
	for deadline := time.Now().Add(patience); ; {
		n, err := read(buf[:])
		if !errors.Is(err, proxy.ErrWait) {
			return string(buf[:n]), err
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing comes")
		}
	}
}

// TestReadNow: what is there, then that nothing is, then the end as it is. A
// reset is no end: the system tells of it once.
func TestReadNow(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		by   func(*net.TCPConn) error
		want error
	}{
		"closed": {func(c *net.TCPConn) error { return c.CloseWrite() }, io.EOF},
		"reset":  {func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := socketPair(t)
			read := proxy.ReadNow(ours)
			if n, err := read(make([]byte, 8)); n != 0 || !errors.Is(err, proxy.ErrWait) {
				t.Fatalf("%d bytes and %v, of which nobody sent any", n, err)
			}
			_, err := theirs.Write([]byte("text"))
			must(t, err)
			if got, err := readSoon(t, read); got != "text" || err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			must(t, end.by(theirs))
			if got, err := readSoon(t, read); got != "" || !errors.Is(err, end.want) {
				t.Errorf("%q, %v; want %v", got, err, end.want)
			}
		})
	}
}

func TestReadNowDoesNotAllocate(t *testing.T) {
	ours, theirs := socketPair(t)
	read, buf := proxy.ReadNow(ours), make([]byte, 1)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = theirs.Write(buf)
		_, _ = read(buf)
	}); n > 0 {
		t.Errorf("%v allocations in a read", n)
	}
}
