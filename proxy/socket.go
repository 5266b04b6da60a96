package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a bound address, or several that were handed over under one name,
// and the service that its next client gets.
type socket struct {
	listeners []net.Listener // at least one
	shared    bool           // with another process, which goes on with it
	service   atomic.Pointer[service]
}

// Addr is the first of the addresses.
func (k *socket) Addr() net.Addr { return k.listeners[0].Addr() }

// Close ends the accept loops.
func (k *socket) Close() {
	for _, l := range k.listeners {
		_ = l.Close()
	}
}

// key tells which socket serves a listener after a reload: the one with the
// same address. Port 0 is a new port each time, so there the name decides.
func (l Listener) key() string {
	if strings.HasSuffix(l.Address, ":0") {
		return l.Name + "=" + l.Address
	}
	return l.Address
}

// bind opens the socket of a service.
func bind(s *service) (*socket, error) {
	if s.Open != nil {
		listeners, err := s.Open()
		if err != nil {
			return nil, fmt.Errorf("listener %s: address %s: %w", s.Name, s.Address, err)
		}
		return &socket{listeners: listeners, shared: true}, nil
	}
	listener, err := Bind("listener "+s.Name, s.Address)
	if err != nil {
		return nil, err
	}
	return &socket{listeners: []net.Listener{listener}}, nil
}

// Bind listens on a TCP address; the error names what wants it and says what
// to do. SO_REUSEPORT lets a new process start beside one that drains; only
// processes of the same user can share so.
func Bind(what, address string) (net.Listener, error) {
	config := net.ListenConfig{Control: reusePort}
	config.SetMultipathTCP(false) // such a socket takes no filter; see letGo
	listener, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, addressError(what, address, err)
	}
	return listener, nil
}

func reusePort(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, failed)
}

// CheckAddress tells whether an address can be bound for something, without
// taking a connection from a proxy that serves there now.
func CheckAddress(what, address string) error {
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return addressError(what, address, err)
	}
	if err := bindOnly(tcp); err != nil {
		return addressError(what, address, err)
	}
	return nil
}

// bindOnly binds and never listens: a socket that listened would be given a
// share of the clients.
func bindOnly(a *net.TCPAddr) error {
	if ip := a.IP.To4(); ip != nil {
		return bindAndClose(unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)})
	}
	address := &unix.SockaddrInet6{Port: a.Port}
	copy(address.Addr[:], a.IP) // nothing for an address without host
	if a.Zone != "" {
		zone, err := net.InterfaceByName(a.Zone)
		if err != nil {
			return err
		}
		address.ZoneId = uint32(zone.Index)
	}
	err := bindAndClose(unix.AF_INET6, address)
	if errors.Is(err, unix.EAFNOSUPPORT) && a.IP == nil { // as package net does without IPv6
		return bindAndClose(unix.AF_INET, &unix.SockaddrInet4{Port: a.Port})
	}
	return err
}

func bindAndClose(family int, address unix.Sockaddr) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, address)
}

// addressError says what to do about an address that can not be bound.
func addressError(what, address string, err error) error {
	mend := ""
	_, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		mend = fmt.Sprintf("; another program has it: \"ss -ltnp sport = :%s\" shows which", port)
	case errors.Is(err, syscall.EACCES):
		mend = "; ports below 1024 need the capability CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		mend = "; no interface of this machine has that address"
	}
	var sys syscall.Errno
	if errors.As(err, &sys) {
		err = sys
	}
	return fmt.Errorf("%s: address %s: %w%s", what, address, err, mend)
}

const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// accept starts a session for every client until the socket is closed. When
// accepting fails, as it does where file descriptors run out, it pauses.
func (srv *Server) accept(k *socket, l net.Listener) {
	defer srv.running.Done()
	defer srv.accepting.Done()
	pause := acceptPauseMin
	var failed seldom
	for {
		conn, err := l.Accept()
		if err == nil {
			pause = acceptPauseMin
			srv.start(conn, k.service.Load())
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if errors.Is(err, os.ErrDeadlineExceeded) { // letGo
			srv.acceptQueued(k, l)
			_ = l.Close()
			return
		}
		s := k.service.Load()
		s.metrics.AcceptError()
		if failures := failed.happened(tellEvery); failures > 0 {
			srv.log.Error("accepting", "listener", s.Name, "error", err, "failures", failures)
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, acceptPauseMax)
		case <-srv.draining.Done():
			return
		}
	}
}
