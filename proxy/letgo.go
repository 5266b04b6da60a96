package proxy

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// letGoTime is how long a socket takes clients whose TCP handshake is under way
// when the shutdown begins: longer than a round trip, and shorter than the
// second after which a client repeats its SYN.
const letGoTime = 300 * time.Millisecond

// letGo stops accepting without losing a client. To close a socket resets the
// connections that wait in its queue, even where another process listens on
// the address, too (SO_REUSEPORT). So the kernel is told to drop new SYNs
// first; those that are on the way come in; the queue is emptied; and then the
// socket is closed. A client whose SYN was dropped repeats it, and is answered
// by the other process, if there is one.
//
// A socket that is shared has one queue for all who have it, and is just left
// to them.
func (srv *Server) letGo(ctx context.Context) {
	srv.mu.Lock()
	letGo := srv.serving && !srv.closed
	srv.closed = true // for reloads
	if letGo {
		for _, k := range srv.sockets {
			k.letGo()
		}
	}
	srv.mu.Unlock()
	if !letGo {
		return
	}
	done := make(chan struct{})
	go func() {
		srv.accepting.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	case <-srv.draining.Done(): // closed meanwhile
	}
}

// letGo has the accept loops end, each in its time.
func (k *socket) letGo() {
	for _, l := range k.listeners {
		until := time.Now()
		if !k.shared && dropSYN(l) == nil {
			until = until.Add(letGoTime)
		}
		if l, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
			_ = l.SetDeadline(until)
		}
	}
}

// acceptQueued takes the clients that the kernel has accepted already. Where it
// could not be told to take no more, there is no end to them.
func (srv *Server) acceptQueued(k *socket, l net.Listener) {
	tcp, ok := l.(*net.TCPListener)
	for until := time.Now().Add(letGoTime); ok && !k.shared && hasQueued(tcp) && time.Now().Before(until); {
		_ = tcp.SetDeadline(time.Now().Add(acceptPauseMin)) // it is there, and does not keep us
		conn, err := tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // as where descriptors run out
			time.Sleep(acceptPauseMin)
			continue
		}
		srv.start(conn, k.service.Load())
	}
}

// onlySYN is a classic BPF program that drops a segment with SYN and without
// ACK, and passes all others. It sees them from the TCP header on.
var onlySYN = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13}, // the flags
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 0, Jf: 1, K: 0x02},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
}

// dropSYN has the kernel pass over the SYNs that come to a listening socket.
// Its connections have the filter, too, which passes all that they get.
func dropSYN(l net.Listener) error {
	program := unix.SockFprog{Len: uint16(len(onlySYN)), Filter: &onlySYN[0]}
	return control(l, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	})
}

// hasQueued tells whether a connection waits to be accepted.
func hasQueued(l net.Listener) bool {
	var ready int
	err := control(l, func(fd int) (err error) {
		ready, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err
	})
	return err == nil && ready > 0
}

// control calls f with the descriptor of a socket.
func control(l net.Listener, f func(fd int) error) error {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return errors.ErrUnsupported
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}
