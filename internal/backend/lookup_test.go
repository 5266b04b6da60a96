package backend_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
)

// named is the host name of the tests, with its port.
const named = "mail.example:25"

// addressesOf are those of a pool, in its order.
func addressesOf(p *backend.Pool) []string {
	var names []string
	for _, s := range p.Status() {
		names = append(names, s.Address)
	}
	return names
}

func wantAddresses(t testing.TB, p *backend.Pool, want ...string) {
	t.Helper()
	if got := addressesOf(p); !slices.Equal(got, want) {
		t.Errorf("addresses %q, want %q", got, want)
	}
}

// Every record is an address of its own; changes come without a restart.
func TestLookup_FollowsTheDNS(t *testing.T) {
	inBubble(t, func(n *network) { n.host("mail.example", "2001:db8::5", "192.0.2.5", "::ffff:192.0.2.5") }, func(t *testing.T, p *checked) {
		wantAddresses(t, p.Pool, a, "192.0.2.5:25", "[2001:db8::5]:25")
		if got := p.state("[2001:db8::5]:25"); got.Host != "mail.example" || p.state(a).Host != "" {
			t.Errorf("%+v", got)
		}
		conn, _ := mustDial(t, p.Pool, client)
		conn5, to := mustDial(t, p.Pool, client)
		if to != "192.0.2.5:25" {
			t.Fatalf("dialled %s", to)
		}
		p.forgetTold()

		p.host("mail.example", "2001:db8::5", "192.0.2.6")
		p.lookedUp()
		wantAddresses(t, p.Pool, a, "192.0.2.6:25", "[2001:db8::5]:25")
		p.wantTold(t, "removed 192.0.2.5:25", "added 192.0.2.6:25", "up 192.0.2.6:25")

		p.host("mail.example", "192.0.2.5") // its connection still counts
		p.lookedUp()
		wantAddresses(t, p.Pool, a, "192.0.2.5:25")
		wantOpen(t, p.Pool, 1, 1)
		p.wantTold(t, "removed 192.0.2.6:25", "removed [2001:db8::5]:25", "added 192.0.2.5:25", "up 192.0.2.5:25")

		p.host("mail.example") // gone: what served so far is better than nothing
		p.lookedUp()
		p.lookedUp()
		wantAddresses(t, p.Pool, a, "192.0.2.5:25")
		p.wantTold(t, "lookup mail.example")
		p.host("mail.example", "192.0.2.1") // the one that stands there already
		p.lookedUp()
		wantAddresses(t, p.Pool, a)
		conn.Close()
		conn5.Close()
		p.host("mail.example")
		p.lookedUp()
		p.wantTold(t, "removed 192.0.2.5:25", "lookup mail.example")

		before := p.checks("192.0.2.6:25")
		time.Sleep(time.Hour)
		if after := p.checks("192.0.2.6:25"); after != before {
			t.Error("an address that is gone is still checked")
		}
	}, a, named)
}

// lookedUp waits for the next look-up, and for what follows from it.
func (p *checked) lookedUp() {
	count := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.asked
	}
	for want := count() + 1; count() < want; {
		time.Sleep(time.Second)
	}
	synctest.Wait()
}

func (n *network) checks(address string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.checked[address]
}

// A server that moved is found by the first client that misses it.
func TestLookup_DialFindsWhatMoved(t *testing.T) {
	inBubble(t, func(n *network) { n.host("mail.example", "192.0.2.5") }, func(t *testing.T, p *checked) {
		p.set(refuses, "192.0.2.5:25")
		p.host("mail.example", "192.0.2.6")
		time.Sleep(2 * time.Second)
		if _, to := mustDial(t, p.Pool, client); to != "192.0.2.6:25" {
			t.Errorf("dialled %s", to)
		}
	}, named)
}

// The first clients wait for the first look-up, and share it.
func TestLookup_DialBeforeTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.host("mail.example", "192.0.2.5")
		p := n.pool(t, nil, named)
		var clients sync.WaitGroup
		for range 20 {
			clients.Go(func() { mustDial(t, p, client) })
		}
		clients.Wait()
		if n.asked != 1 {
			t.Errorf("%d look-ups", n.asked)
		}
	})
}

// A failure is a failure of the DNS, and is not repeated for each client; the
// other addresses serve meanwhile.
func TestLookup_Fails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		p := n.pool(t, nil, named)
		for range 10 {
			conn, err := p.Dial(t.Context(), client, nil)
			dns, ok := errors.AsType[*net.DNSError](err)
			if conn != nil || !ok || dns.Name != "mail.example" || !strings.HasPrefix(err.Error(), "backend mta: lookup mail.example") {
				t.Fatalf("%v, %v", conn, err)
			}
		}
		if n.asked != 1 {
			t.Errorf("%d look-ups", n.asked)
		}
		n.host("mail.example", "192.0.2.5")
		time.Sleep(time.Second)
		mustDial(t, p, client)

		other := n.pool(t, nil, "none.example:25", a)
		mustDial(t, other, client)
		n.set(refuses, a)
		if _, err := other.Dial(t.Context(), client, nil); err == nil || strings.Count(err.Error(), "backend mta: ") != 2 {
			t.Errorf("error %v", err)
		}
		n.hosts["empty.example"] = nil
		if _, err := n.pool(t, nil, "empty.example:25").Dial(t.Context(), client, nil); err == nil || err.Error() != "backend mta: lookup empty.example: no address" {
			t.Errorf("error %v", err)
		}
	})
}

// A resolver that hangs is given up, and ends with the client's context.
func TestLookup_Hangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		p := n.pool(t, nil, "stuck:25")
		began := time.Now()
		if _, err := p.Dial(t.Context(), client, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it took %v", took)
		}
		p = n.pool(t, nil, "stuck:25")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var clients sync.WaitGroup
		for range 2 {
			clients.Go(func() {
				if conn, err := p.Dial(ctx, client, nil); conn != nil || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v, %v", conn, err)
				}
			})
		}
		clients.Wait()
		p.Start() // and Close, at the end, ends the look-up
		synctest.Wait()
	})
}

// An answer of any length makes no more than so many addresses.
func TestLookup_IsBounded(t *testing.T) {
	n := newNetwork()
	var ips []string
	for i := range 300 {
		ips = append(ips, fmt.Sprintf("192.0.%d.%d", 2+i/200, i%200))
	}
	n.host("mail.example", ips...)
	p := n.pool(t, nil, named)
	mustDial(t, p, client)
	if got := len(addressesOf(p)); got != 64 {
		t.Errorf("%d addresses", got)
	}
}

// Addresses that are written twice, in whatever way, are one.
func TestLookup_NoAddressTwice(t *testing.T) {
	n := newNetwork()
	n.host("mail.example", "192.0.2.1", "192.0.2.2")
	n.host("other.example", "192.0.2.2")
	p := n.pool(t, nil, a, a, named, "other.example:25", c, c, "other.example:26")
	n.set(refuses, "192.0.2.1:25", "/run/c")
	mustDial(t, p, client)
	wantAddresses(t, p, a, "192.0.2.2:25", c, "192.0.2.2:26")
}
