package backend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
)

// server listens on loopback and says its name to each client.
func server(t *testing.T, network, address, name string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, name)
			conn.Close()
		}
	}()
	return l
}

// closed is an address on which nothing listens any more.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l.Addr().String()
}

// silent is an address that answers no connection: a listener that accepts
// none, and whose queue is full.
func silent(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(socket, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 16 {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("a queue of length 0 took 16 connections")
	return ""
}

// real is a pool in the real network.
func real(t *testing.T, timeout time.Duration, addresses ...string) *backend.Pool {
	t.Helper()
	p, err := backend.New(backend.Config{Name: "mta", Addresses: addresses, ConnectTimeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// reached dials and returns the name that the server said.
func reached(t *testing.T, p *backend.Pool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), backend.DefaultConnectTimeout-time.Second) // shorter than a try by default
	defer cancel()
	conn, err := p.Dial(ctx, client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var name string
	if _, err := fmt.Fscanln(conn, &name); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLoopback_TakesTheFirstThatAccepts(t *testing.T) {
	first, second := server(t, "tcp", "127.0.0.1:0", "first"), server(t, "tcp", "127.0.0.1:0", "second")
	socket := filepath.Join(t.TempDir(), "smtp")
	server(t, "unix", socket, "socket")
	six := server(t, "tcp", "[::1]:0", "six").Addr().String()
	_, port, _ := net.SplitHostPort(second.Addr().String())
	for _, c := range []struct {
		name      string
		addresses []string
		want      string
	}{
		{"both up", []string{first.Addr().String(), second.Addr().String()}, "first"},
		{"the other order", []string{second.Addr().String(), first.Addr().String()}, "second"},
		{"first refuses", []string{closed(t), second.Addr().String()}, "second"},
		{"no such socket", []string{"unix:" + socket + ".no", closed(t), second.Addr().String()}, "second"},
		{"socket", []string{"unix:" + socket, first.Addr().String()}, "socket"},
		{"socket last", []string{closed(t), "unix:" + socket}, "socket"},
		{"IPv6", []string{closed(t), six}, "six"},
		{"host name", []string{"localhost:" + port}, "second"},
		{"first does not answer", []string{silent(t), second.Addr().String()}, "second"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := real(t, time.Second, c.addresses...)
			if got := reached(t, p); got != c.want {
				t.Errorf("reached %q, want %q", got, c.want)
			}
		})
	}
}

func TestLoopback_TellsWhatEachAddressSaid(t *testing.T) {
	refused, quiet, socket := closed(t), silent(t), filepath.Join(t.TempDir(), "none")
	conn, err := real(t, 50*time.Millisecond, refused, quiet, "unix:"+socket).Dial(t.Context(), client, nil)
	if conn != nil || err == nil {
		t.Fatalf("got %v, %v; want an error", conn, err)
	}
	var timeout net.Error
	if !errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(err, syscall.ENOENT) || !errors.As(err, &timeout) {
		t.Errorf("the error does not hold what each address said: %v", err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines for 3 addresses: %v", len(lines), err)
	}
	for i, address := range []string{refused, quiet, socket} {
		if !strings.HasPrefix(lines[i], "backend mta: ") || !strings.Contains(lines[i], address) {
			t.Errorf("line %d is %q, want it to name the backend and %s", i+1, lines[i], address)
		}
	}
	if !strings.Contains(lines[1], "timeout") {
		t.Errorf("%q does not tell of a timeout", lines[1])
	}
}

func TestLoopback_ContextEndsAllTries(t *testing.T) {
	good := server(t, "tcp", "127.0.0.1:0", "good").Addr().String()
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := real(t, 0, good, server(t, "tcp", "127.0.0.1:0", "other").Addr().String()).Dial(ctx, client, nil)
		requireOneTry(t, err)
	})
	t.Run("during", func(t *testing.T) {
		addresses := []string{silent(t), good}
		ctx, cancel := context.WithCancel(t.Context())
		defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
		_, err := real(t, 0, addresses...).Dial(ctx, client, nil)
		requireOneTry(t, err)
	})
}

// requireOneTry holds that the first try was given up, and there was no other.
func requireOneTry(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want %v", err, context.Canceled)
	}
	if n := strings.Count(err.Error(), "backend mta: "); n != 1 {
		t.Errorf("%d addresses were tried, want 1: %v", n, err)
	}
}

// A half-close is the real connection's, and a connection that has none says so.
func TestLoopback_HalfClose(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := real(t, 0, l.Addr().String()).Dial(t.Context(), client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	served, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	served.SetDeadline(time.Now().Add(10 * time.Second))
	if rest, err := io.ReadAll(served); err != nil || len(rest) > 0 {
		t.Errorf("the server read %q, %v; want the end", rest, err)
	}
	if _, err := served.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Errorf("the other direction: %v", err)
	}
	pipe, _ := mustDial(t, newNetwork().pool(t, nil, "192.0.2.1:25"), client)
	defer pipe.Close()
	if err := pipe.(interface{ CloseWrite() error }).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("half-close of a pipe: %v", err)
	}
}

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"unix:/run/smtp":  "unix",
		"127.0.0.1:25":    "tcp",
		"[2001:db8::1]:1": "tcp",
		"unix.example:25": "tcp",
	} {
		if got := backend.Network(address); got != want {
			t.Errorf("Network(%q) = %q, want %q", address, got, want)
		}
	}
}

func TestAddrPort(t *testing.T) {
	for _, c := range []struct {
		name string
		addr net.Addr
		want string // "" for none
	}{
		{"ipv4", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1).To4(), Port: 25}, "192.0.2.1:25"},
		{"mapped", &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1).To16(), Port: 25}, "192.0.2.1:25"},
		{"ipv6", &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 65535}, "[2001:db8::1]:65535"},
		{"zone", &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 25, Zone: "eth0"}, "[fe80::1%eth0]:25"},
		{"unix", &net.UnixAddr{Name: "/run/smtp", Net: "unix"}, ""},
		{"udp", &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25}, ""},
		{"none", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want netip.AddrPort
			if c.want != "" {
				want = netip.MustParseAddrPort(c.want)
			}
			if got := backend.AddrPort(c.addr); got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	if got := backend.AddrPort(&net.TCPAddr{}); got.IsValid() {
		t.Errorf("an address without IP gave %v", got)
	}
}
