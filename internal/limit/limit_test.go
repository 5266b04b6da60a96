package limit_test

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/limit"
)

// open takes a slot for a client.
func open(l *limit.Limiter, client string) (*limit.Slot, error) {
	slot, err := l.Open()
	if err != nil {
		return nil, err
	}
	if err := slot.Admit(address(client)); err != nil {
		slot.Release()
		return nil, err
	}
	return &slot, nil
}

// address is the zero Addr for "".
func address(text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(text)
}

func mustOpen(t *testing.T, l *limit.Limiter, client string) *limit.Slot {
	t.Helper()
	slot, err := open(l, client)
	if err != nil {
		t.Fatalf("%s: %v", client, err)
	}
	return slot
}

func mustRefuse(t *testing.T, l *limit.Limiter, client string, want error) {
	t.Helper()
	if _, err := open(l, client); !errors.Is(err, want) {
		t.Fatalf("%s: got %v, want %v", client, err, want)
	}
}

func TestR76_Connections(t *testing.T) {
	t.Parallel()
	l := limit.New(limit.Limits{Connections: 2})
	first := mustOpen(t, l, "192.0.2.1")
	mustOpen(t, l, "192.0.2.2")
	mustRefuse(t, l, "192.0.2.3", limit.ErrConnections)
	first.Release()
	first.Release() // of no effect
	if n := l.Connections(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	mustOpen(t, l, "192.0.2.3")
	mustRefuse(t, l, "192.0.2.4", limit.ErrConnections)
}

func TestR76_ConnectionsPerClient(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, first, second string
		same                bool
	}{
		{"IPv4", "192.0.2.1", "192.0.2.1", true},
		{"IPv4 neighbour", "192.0.2.1", "192.0.2.2", false},
		{"IPv4 on a dual-stack socket", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"IPv6", "2001:db8::1", "2001:db8::1", true},
		{"IPv6 of a /64", "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
		{"IPv6 of the next /64", "2001:db8::1", "2001:db8:0:1::1", false},
		{"IPv6 and IPv4 of the same digits", "::1", "0.0.0.1", false},
		{"IPv6 with a zone", "fe80::1%eth0", "fe80::2", true},
		{"no address", "", "", false},
		{"no address and zero", "", "0.0.0.0", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := limit.New(limit.Limits{ConnectionsPerClient: 1})
			slot := mustOpen(t, l, test.first)
			if !test.same {
				mustOpen(t, l, test.second)
				return
			}
			mustRefuse(t, l, test.second, limit.ErrClientConnections)
			if n := l.Connections(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
			slot.Release()
			mustOpen(t, l, test.second)
		})
	}
}

func TestHandshakeRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate = 5
		l := limit.New(limit.Limits{HandshakesPerSecond: rate})
		begin := func(client string) (begun int) {
			for {
				slot, err := open(l, client)
				if err != nil {
					if !errors.Is(err, limit.ErrHandshakeRate) {
						t.Fatal(err)
					}
					return begun
				}
				slot.Release() // gives back the connection, not the handshake
				begun++
			}
		}
		for i, step := range []struct {
			pause time.Duration
			want  int
		}{
			{0, 2 * rate}, {0, 0}, {time.Second / rate, 1}, {time.Second, rate},
			{1900 * time.Millisecond, 2*rate - 1}, {2100 * time.Millisecond, 2 * rate}, {time.Hour, 2 * rate},
		} {
			time.Sleep(step.pause)
			if got := begin("192.0.2.1"); got != step.want {
				t.Errorf("step %d: %d handshakes, want %d", i, got, step.want)
			}
		}
		if got := begin("192.0.2.2"); got != 2*rate {
			t.Errorf("another client has %d handshakes, want %d", got, 2*rate)
		}
	})
}

// TestHandshakeRateOverHours: whenever a client comes, it never has more than
// its rate.
func TestHandshakeRateOverHours(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rate, seconds = 3, 1000
		l := limit.New(limit.Limits{HandshakesPerSecond: rate})
		begun := 0
		for range 10 * seconds {
			time.Sleep(time.Second / 10)
			if slot, err := open(l, "192.0.2.1"); err == nil {
				slot.Release()
				begun++
			}
		}
		if most := rate * (seconds + 2); begun > most || begun < rate*seconds-1 {
			t.Errorf("%d handshakes in %d s, want %d to %d", begun, seconds, rate*seconds-1, most)
		}
	})
}

// TestSet: other limits hold for what comes, and count what there is.
func TestSet(t *testing.T) {
	t.Parallel()
	l := limit.New(limit.Limits{})
	var slots []*limit.Slot
	for range 3 {
		slots = append(slots, mustOpen(t, l, "192.0.2.1"))
	}
	l.Set(limit.Limits{Connections: 2, ConnectionsPerClient: 1, HandshakesPerSecond: 1000})
	mustRefuse(t, l, "192.0.2.2", limit.ErrConnections)
	slots[0].Release()
	slots[1].Release()
	mustRefuse(t, l, "192.0.2.1", limit.ErrClientConnections)
	mustOpen(t, l, "192.0.2.2")
	slots[2].Release()
	mustOpen(t, l, "192.0.2.1")
	if n := l.Connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestR76_NoSlotIsLost: many clients, limits that change, and in the end
// nothing is open.
func TestR76_NoSlotIsLost(t *testing.T) {
	t.Parallel()
	l := limit.New(limit.Limits{Connections: 8, ConnectionsPerClient: 2, HandshakesPerSecond: 1000})
	clients := []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", ""}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range 500 {
				slot, err := open(l, clients[i%len(clients)])
				if err == nil {
					slot.Release()
				}
				if i%100 == 0 {
					l.Set(limit.Limits{Connections: 4 + i%7, ConnectionsPerClient: 1 + i%3})
				}
			}
		})
	}
	wg.Wait()
	if open, clients := l.Connections(), l.Clients(); open != 0 || clients != 0 {
		t.Errorf("%d connections of %d clients are left", open, clients)
	}
}

// TestHistoryIsBounded: a flood from ever new addresses makes the limiter
// forget the oldest, and all are forgotten soon.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(limit.Limits{HandshakesPerSecond: 1})
		for i := range 5 * limit.MaxRemembered {
			slot := mustOpen(t, l, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String())
			slot.Release()
		}
		if n := l.Remembered(); n > 2*limit.MaxRemembered || n <= limit.MaxRemembered {
			t.Errorf("%d clients are remembered, want at most %d", n, 2*limit.MaxRemembered)
		}
		for range 2 { // the clients that ask are the only ones left
			time.Sleep(3 * time.Second)
			mustOpen(t, l, "192.0.2.1")
		}
		if n := l.Remembered(); n > 2 {
			t.Errorf("%d clients are remembered", n)
		}
	})
}
