package backend_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
)

// The addresses of most tests.
const a, b, c = "192.0.2.1:25", "[2001:db8::2]:25", "unix:/run/c"

func TestNew_RefusesWhatIsNoAddress(t *testing.T) {
	_, err := backend.New(backend.Config{Name: "mta", Addresses: []string{a, "mail.example"}})
	if err == nil || !strings.Contains(err.Error(), "backend mta: address mail.example: missing port") {
		t.Errorf("error %v", err)
	}
}

func balanced(way backend.Balance) func(*backend.Config) {
	return func(config *backend.Config) { config.Balance = way }
}

func TestDial_RoundRobin(t *testing.T) {
	n := newNetwork()
	p := n.pool(t, balanced(backend.RoundRobin), a, b, c)
	for range 7 {
		mustDial(t, p, client) // stays open, which does not matter
	}
	n.wantDialled(t, a, b, "/run/c", a, b, "/run/c", a)
}

func TestDial_LeastConnectionsIsTheDefault(t *testing.T) {
	n := newNetwork()
	p := n.pool(t, nil, a, b)
	first, _ := mustDial(t, p, client)
	mustDial(t, p, client)
	mustDial(t, p, client)
	first.Close()
	first.Close() // counts once
	n.wantDialled(t, a, b, a)
	mustDial(t, p, client) // both have one: b was not taken for longer
	mustDial(t, p, client)
	n.wantDialled(t, b, a)
	wantOpen(t, p, 2, 2)
}

// wantOpen holds the counts of open connections, by address.
func wantOpen(t testing.TB, p *backend.Pool, want ...int) {
	t.Helper()
	var open []int
	for _, s := range p.Status() {
		open = append(open, s.Open)
	}
	if !slices.Equal(open, want) {
		t.Errorf("open connections %v, want %v", open, want)
	}
}

func TestDial_ClientHashMovesOnlyTheClientsOfTheLost(t *testing.T) {
	n := newNetwork()
	p := n.pool(t, balanced(backend.ClientHash), a, b, c)
	leads := func() map[netip.Addr]string {
		to := make(map[netip.Addr]string)
		for i := range 300 {
			from := netip.AddrFrom4([4]byte{198, 51, byte(i / 256), byte(i)})
			_, to[from] = mustDial(t, p, from)
		}
		return to
	}
	before, shares := leads(), make(map[string]int)
	for _, to := range before {
		shares[to]++
	}
	for to, share := range shares {
		if len(shares) != 3 || share < 60 || share > 140 {
			t.Errorf("%s has %d of 300 clients in %d parts", to, share, len(shares))
		}
	}
	n.set(refuses, b)
	for from, to := range leads() {
		if to == b || before[from] != b && to != before[from] {
			t.Errorf("%s moved from %s to %s", from, before[from], to)
		}
	}
}

func TestDial_ClientHashKnowsNetworks(t *testing.T) {
	n := newNetwork()
	p := n.pool(t, balanced(backend.ClientHash), "192.0.2.1:25", "192.0.2.2:25", "192.0.2.3:25", "192.0.2.4:25")
	to := func(from string) string {
		_, to := mustDial(t, p, netip.MustParseAddr(from))
		return to
	}
	differ := false
	for i := range 20 {
		prefix := fmt.Sprintf("2001:db8:0:%x:", i)
		if to(prefix+":1") != to(prefix+"ffff:1:2:3") {
			t.Errorf("clients of one /64 are kept apart: %s", prefix)
		}
		differ = differ || to(prefix+":1") != to("2001:db8::1")
		four := fmt.Sprintf("192.0.2.%d", i)
		if to(four) != to("::ffff:"+four) {
			t.Errorf("%s and its mapped form are kept apart", four)
		}
	}
	if !differ {
		t.Error("all networks are led to one address")
	}
	if _, err := p.Dial(t.Context(), netip.Addr{}, nil); err != nil {
		t.Errorf("a client without address: %v", err)
	}
}

// One that fails is not noticed by the client, and is left alone until a
// back-off has passed; then one client tries it.
func TestDial_FailsOverAndMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		p := n.pool(t, balanced(backend.RoundRobin), a, b)
		p.Start()
		n.set(refuses, a)
		mustDial(t, p, client)
		n.wantDialled(t, a, b)
		for range 3 {
			mustDial(t, p, client)
		}
		n.wantDialled(t, b, b, b)
		n.wantTold(t, "added "+a, "added "+b, "down "+a+" 1", "up "+b)
		for _, backOff := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			time.Sleep(backOff*time.Second - time.Millisecond)
			mustDial(t, p, client)
			n.wantDialled(t, b)
			time.Sleep(time.Millisecond)
			mustDial(t, p, client)
			n.wantDialled(t, a, b)
		}
		n.wantTold(t)
		n.set(serves, a)
		time.Sleep(30 * time.Second)
		mustDial(t, p, client)
		n.wantDialled(t, a)
		n.wantTold(t, "up "+a)
		n.set(refuses, a)
		mustDial(t, p, client)
		mustDial(t, p, client)
		time.Sleep(time.Second) // the back-off began anew
		n.wantTold(t, "down "+a+" 1")
		n.set(serves, a)
		mustDial(t, p, client)
		n.wantTold(t, "up "+a)
	})
}

// A try that hangs keeps one client only; the others do not wait with it.
func TestDial_OneClientTriesAnAddressThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		p := n.pool(t, func(c *backend.Config) { c.ConnectTimeout = 800 * time.Millisecond }, a, b)
		p.Start()
		n.set(drops, a)
		began := time.Now()
		mustDial(t, p, client)
		if took := time.Since(began); took != 800*time.Millisecond {
			t.Errorf("the dial took %v", took)
		}
		time.Sleep(time.Second)
		var clients sync.WaitGroup
		var slow sync.Map
		for i := range 20 {
			clients.Go(func() {
				began := time.Now()
				mustDial(t, p, client)
				if time.Since(began) > 0 {
					slow.Store(i, true)
				}
			})
		}
		clients.Wait()
		waited := 0
		slow.Range(func(any, any) bool { waited++; return true })
		if waited != 1 {
			t.Errorf("%d clients waited, want 1", waited)
		}
		wantOpen(t, p, 0, 21)
	})
}

// No client is refused without a try, and the one that was up last comes first.
func TestDial_AllDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		p := n.pool(t, balanced(backend.RoundRobin), a, b, c)
		p.Start()
		for range 3 {
			mustDial(t, p, client)
			time.Sleep(time.Millisecond)
		}
		n.wantDialled(t, a, b, "/run/c")
		n.set(refuses, a, b, "/run/c")
		n.wantTold(t, "added "+a, "added "+b, "added "+c, "up "+a, "up "+b, "up "+c)
		_, err := p.Dial(t.Context(), client, nil)
		if !errors.Is(err, syscall.ECONNREFUSED) || strings.Count(err.Error(), "backend mta: ") != 3 {
			t.Errorf("error %v", err)
		}
		n.wantDialled(t, a, b, "/run/c")
		n.wantTold(t, "down "+a+" 2", "down "+b+" 1", "down "+c+" 0")
		for range 2 {
			if _, err := p.Dial(t.Context(), client, nil); err == nil {
				t.Fatal("no error")
			}
			n.wantDialled(t, "/run/c", b, a)
		}
		n.set(serves, b)
		mustDial(t, p, client)
		n.wantDialled(t, "/run/c", b)
		n.wantTold(t, "up "+b)
		mustDial(t, p, client)
		n.wantDialled(t, b)
		wantOpen(t, p, 1, 3, 1)
	})
}

// An address that takes the connection and then hangs up counts as one that
// refuses it, and is told of once; any other error ends the dial.
func TestDial_BeginsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		p := n.pool(t, balanced(backend.RoundRobin), a, b)
		p.Start()
		sick := map[string]error{a: &backend.Elsewhere{Err: io.EOF}}
		var begun []string
		dial := func() error {
			conn, err := p.Dial(t.Context(), client, func(conn net.Conn) error {
				to := conn.RemoteAddr().String()
				begun = append(begun, to)
				return sick[to]
			})
			if err == nil {
				conn.Close()
			}
			return err
		}
		for range 3 {
			if err := dial(); err != nil {
				t.Error(err)
			}
		}
		if want := []string{a, b, b, b}; !slices.Equal(begun, want) {
			t.Errorf("begun with %q, want %q", begun, want)
		}
		n.wantTold(t, "added "+a, "added "+b, "down "+a+" 1", "up "+b)
		sick[b] = &backend.Elsewhere{Err: syscall.ECONNRESET}
		begun = nil
		for range 2 {
			if err := dial(); !errors.Is(err, io.EOF) || !errors.Is(err, syscall.ECONNRESET) || !strings.Contains(err.Error(), "backend mta: address "+a+": EOF") {
				t.Errorf("error %v", err)
			}
		}
		if want := []string{b, a, b, a}; !slices.Equal(begun, want) {
			t.Errorf("begun with %q, want %q", begun, want)
		}
		n.wantTold(t, "down "+b+" 0")
		sick[b] = errors.New("no greeting")
		if err := dial(); err != sick[b] {
			t.Errorf("error %v, want what begin said", err)
		}
		n.wantTold(t) // which does not bring it back
		delete(sick, b)
		if err := dial(); err != nil {
			t.Error(err)
		}
		n.wantTold(t, "up "+b)
		wantOpen(t, p, 0, 0)
	})
}

// What is no address's fault is not laid to one.
func TestDial_OwnFaultsMarkNothing(t *testing.T) {
	n := newNetwork()
	p := n.pool(t, nil, a, b)
	p.Start()
	n.wantTold(t, "added "+a, "added "+b)
	n.set(ours, a, b)
	if _, err := p.Dial(t.Context(), client, nil); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("error %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Dial(gone, client, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	n.wantTold(t)
	for _, s := range p.Status() {
		if s.State != backend.Unknown || s.Open != 0 || s.LastError != nil {
			t.Errorf("status %+v", s)
		}
	}
}

// A pool that is closed is still good for the sessions that have it.
func TestDial_BehindClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		p := n.pool(t, nil, a, "mail.example:25")
		p.Start()
		conn, _ := mustDial(t, p, client)
		p.Close()
		n.forgetTold()
		time.Sleep(time.Second) // or the failed look-up would still count
		n.set(refuses, a)
		n.host("mail.example", "192.0.2.9")
		if _, to := mustDial(t, p, client); to != "192.0.2.9:25" {
			t.Errorf("dialled %s", to)
		}
		n.wantTold(t)
		conn.Close()
		p.Close()
		p.Start() // is of no use any more, and no harm
	})
}

// forgetTold is for what the test does not mind.
func (n *network) forgetTold() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = nil
}

// TestDial_ManyAtOnce dials and closes while addresses come, go and fail: no
// count leaks, and no client fails while one address serves.
func TestDial_ManyAtOnce(t *testing.T) {
	for _, way := range []backend.Balance{backend.LeastConnections, backend.RoundRobin, backend.ClientHash} {
		t.Run(string(way), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork()
				n.host("mail.example", "192.0.2.10", "2001:db8::10")
				p := n.pool(t, func(config *backend.Config) {
					config.Balance = way
					config.Health = backend.HealthCheck{Interval: 3 * time.Millisecond}
					config.LookupInterval = 2 * time.Millisecond
				}, a, b, "mail.example:25")
				p.Start()
				stop := make(chan struct{})
				var changes, clients sync.WaitGroup
				changes.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						case <-time.After(time.Millisecond):
						}
						n.set(flapping(i), b, fmt.Sprintf("192.0.2.%d:25", 10+i%5))
						n.host("mail.example", fmt.Sprintf("192.0.2.%d", 10+i%5), "2001:db8::10", fmt.Sprintf("192.0.2.%d", 10+i%7))
					}
				})
				for g := range 50 {
					clients.Go(func() {
						from := netip.AddrFrom4([4]byte{198, 51, 100, byte(g)})
						var open []net.Conn
						for i := range 200 {
							conn, err := p.Dial(t.Context(), from, nil)
							if err != nil {
								t.Error(err)
								return
							}
							open = append(open, conn)
							if i%3 != 0 {
								open[0].Close()
								open[0].Close()
								open = open[1:]
							}
							time.Sleep(time.Duration(i%4) * 100 * time.Microsecond)
						}
						for _, conn := range open {
							conn.Close()
						}
					})
				}
				clients.Wait()
				close(stop)
				changes.Wait()
				for _, s := range p.Status() {
					if s.Open != 0 {
						t.Errorf("%s has %d connections left", s.Address, s.Open)
					}
				}
			})
		})
	}
}

// flapping is how a flapping address answers the i-th time.
func flapping(i int) way { return []way{refuses, serves, sick, serves}[i%4] }
