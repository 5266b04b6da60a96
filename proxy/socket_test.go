package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/freeport"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// stuckListener fails to accept, and is then closed.
type stuckListener struct {
	net.Listener
	fails  int
	tries  atomic.Int32
	client net.Conn
	closed chan struct{}
}

func (l *stuckListener) Accept() (net.Conn, error) {
	n := int(l.tries.Add(1))
	switch {
	case n <= l.fails:
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	case n == l.fails+1:
		return l.client, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

// TestAcceptErrors: when file descriptors run out the listener pauses, longer
// each time, and goes on (R79).
func TestAcceptErrors(t *testing.T) {
	inBubble(t, proxy.ModeSTARTTLS, nil, mailServer, func(b *bubble) {
		ours, theirs := memoryPipe(587, memoryBuffer)
		l := &stuckListener{fails: 10, client: theirs, closed: make(chan struct{})}
		defer close(l.closed)
		c := newClient(b.t, ours)
		c.patience = aDay
		// 5, 10, 20, … 640 ms and twice a second.
		b.takes(1275*time.Millisecond+2*time.Second, func() {
			b.AcceptOn(l)
			c.expect("220 ")
		})
		b.counts(10, "accept_errors_total", "listener", "starttls")
		contains(b.t, b.log.text(), "too many open files")
		c.do("QUIT", "221 ")
		c.end()
	})
}

// TestAcceptErrorsAreToldAtTimes: a flood that takes the file descriptors must
// not flood the log.
func TestAcceptErrorsAreToldAtTimes(t *testing.T) {
	inBubble(t, proxy.ModeSTARTTLS, nil, mailServer, func(b *bubble) {
		const seconds = 35
		b.AcceptOn(&stuckListener{fails: 1 << 20})
		time.Sleep(seconds * time.Second) // in the bubble
		synctest.Wait()
		log := b.log.text()
		if n := strings.Count(log, "too many open files"); n != 4 {
			b.t.Errorf("%d lines in %d s, want 4", n, seconds)
		}
		// Pauses of 5 ms to 640 ms, and then of a second.
		contains(b.t, log, `"failures":1}`, `"failures":10}`)
		b.counts(8+34, "accept_errors_total", "listener", "starttls")
		must(b.t, b.Shutdown(b.t.Context()))
	})
}

// TestAcceptPauseEndsWithShutdown: a pause does not hold up a shutdown.
func TestAcceptPauseEndsWithShutdown(t *testing.T) {
	inBubble(t, proxy.ModeSTARTTLS, nil, mailServer, func(b *bubble) {
		l := &stuckListener{fails: 1 << 20}
		b.AcceptOn(l)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.takes(0, func() { must(b.t, b.Shutdown(b.t.Context())) })
	})
}

// TestTwoServersOnOneAddress: a new process can start beside one that drains.
func TestTwoServersOnOneAddress(t *testing.T) {
	backend := newBackend(t, mailServer)
	l := listenerTo(t, proxy.ModeSTARTTLS, backend.address)
	old := serve(t, l)
	in := old.client("starttls")
	in.startTLS(trusting("a.example"))
	in.do("MAIL FROM:<a@client.example>", "250 ")

	l.Address = old.Addr("starttls").String()
	l.Name = "new"
	serve(t, l)
	drained := make(chan error, 1)
	go func() { drained <- old.Shutdown(t.Context()) }()
	for range 20 {
		if code, err := greeting(l.Address); err != nil || code != 220 && code != 421 {
			t.Errorf("greeting %d, %v", code, err)
		}
	}
	in.do("RSET", "250 ")
	in.expect("421 ")
	in.end()
	in.conn.Close()
	must(t, <-drained)
}

// greeting connects and returns the code that the server greets with.
func greeting(address string) (code int, err error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(conn).ReadString('\n') // 421 may come right behind 220
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(line[:min(3, len(line))])
}

// TestR82_ShutdownLosesNoClient: while one server after the other stops, with
// the next one beside it, each client that connects is greeted, or sent away
// with 421. To close a socket without further ado resets those in its queue.
func TestR82_ShutdownLosesNoClient(t *testing.T) {
	backend := newBackend(t, mailServer)
	l := listenerTo(t, proxy.ModeSTARTTLS, backend.address)
	l.Address = freeport.Loopback(t)
	servers := []*server{serve(t, l)}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var served, sentAway atomic.Int64
	for range 16 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch code, err := greeting(l.Address); {
				case err != nil:
					t.Errorf("a client was lost: %v", err)
				case code == 220:
					served.Add(1)
				case code == 421:
					sentAway.Add(1)
				default:
					t.Errorf("greeting %d", code)
				}
			}
		})
	}
	for n := range 5 {
		l.Name = fmt.Sprintf("server-%d", n)
		next := serve(t, l)
		servers = append(servers, next)
		for deadline := time.Now().Add(patience); next.metric("connections_total", "listener", l.Name) < 20; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the next server gets no clients")
			}
		}
		must(t, servers[n].Shutdown(t.Context()))
	}
	close(stop)
	clients.Wait()
	t.Logf("%d clients were served and %d got 421", served.Load(), sentAway.Load())
	if served.Load() < 100 {
		t.Error("too few clients to tell")
	}
}

// TestCheckAddressTakesNoClient: the check binds where a server listens and
// gets no client of that.
func TestCheckAddressTakesNoClient(t *testing.T) {
	backend := newBackend(t, mailServer)
	srv := serve(t, listenerTo(t, proxy.ModeSTARTTLS, backend.address))
	address := srv.Addr("starttls")
	checked := make(chan error, 1)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				checked <- nil
				return
			default:
			}
			if err := proxy.CheckAddress("test", address.String()); err != nil {
				checked <- err
				return
			}
		}
	}()
	for range 200 {
		c := dialClient(t, address)
		c.expect("220 ")
		c.conn.Close()
	}
	close(stop)
	must(t, <-checked)
}

// TestBindErrors: the error names who wants the address, and what to do.
func TestBindErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0") // without SO_REUSEPORT, as another program's
	must(t, err)
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	tests := []struct{ address, want string }{
		{taken.Addr().String(), fmt.Sprintf("ss -ltnp sport = :%s", port)},
		{"192.0.2.1:2525", "no interface of this machine has that address"},
		{"nonsense", "missing port"},
		{"[fe80::1%nosuch]:2525", "address [fe80::1%nosuch]:2525"},
	}
	for _, test := range tests {
		for _, f := range []func(what, address string) error{
			proxy.CheckAddress,
			func(what, address string) error {
				l, err := proxy.Bind(what, address)
				if err == nil {
					l.Close()
				}
				return err
			},
		} {
			err := f("admin", test.address)
			if err == nil {
				t.Errorf("%s: no error", test.address)
				continue
			}
			contains(t, err.Error(), "admin: address ", test.want)
		}
	}
	if _, err := proxy.Bind("admin", taken.Addr().String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error %v", err)
	}
	for _, free := range []string{":0", "127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		if err := proxy.CheckAddress("test", free); err != nil {
			t.Error(err)
		}
	}
}
