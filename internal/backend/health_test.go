package backend_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
)

// checked is a pool with health checks, in a bubble of package synctest.
type checked struct {
	*backend.Pool
	*network
	t       testing.TB
	results []string // of checks
}

// inBubble starts a pool with checks of the default settings, and waits for
// the first ones to end.
func inBubble(t *testing.T, prepare func(*network), test func(*testing.T, *checked), addresses ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &checked{network: newNetwork(), t: t}
		if prepare != nil {
			prepare(p.network)
		}
		p.Pool = p.pool(t, func(config *backend.Config) {
			config.Health.Interval = 0
			config.Events.Checked = func(address string, err error) {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.results = append(p.results, result(address, err))
			}
		}, addresses...)
		p.Start()
		synctest.Wait()
		test(t, p)
	})
}

func result(address string, err error) string {
	if err == nil {
		return address + " ok"
	}
	return address + " " + err.Error()
}

// nextCheck waits until a number of further checks of an address have ended,
// successful ones and others.
func (p *checked) nextCheck(address string, number int) {
	p.t.Helper()
	count := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		n := 0
		for _, r := range p.results {
			if len(r) > len(address) && r[:len(address)+1] == address+" " {
				n++
			}
		}
		return n
	}
	for want, tries := count()+number, 0; count() < want; tries++ {
		if tries > 10000 {
			p.t.Fatalf("%s is not checked any more", address)
		}
		time.Sleep(100 * time.Millisecond)
	}
	synctest.Wait()
}

// state is that of an address.
func (p *checked) state(address string) backend.Status {
	p.t.Helper()
	for _, s := range p.Status() {
		if s.Address == address {
			return s
		}
	}
	p.t.Fatalf("no address %s", address)
	return backend.Status{}
}

func TestHealth_FallAndRise(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *checked) {
		p.forgetTold() // the two are checked at the same time
		p.set(sick, a)
		p.nextCheck(a, backend.DefaultFall-1)
		p.wantTold(t)
		if got := p.state(a); got.State != backend.Up || !errors.Is(got.LastError, errSick) {
			t.Errorf("before the fall: %+v", got)
		}
		p.nextCheck(a, 1)
		p.wantTold(t, "down "+a+" 1")
		if got := p.state(a); got.State != backend.Down || !got.LastErrorAt.Equal(got.Since) {
			t.Errorf("after the fall: %+v", got)
		}
		for range 3 { // it accepts connections, but that does not count
			_, to := mustDial(t, p.Pool, client)
			if to != b {
				t.Errorf("a client was led to %s", to)
			}
		}
		time.Sleep(time.Minute)
		p.set(serves, a)
		p.nextCheck(a, backend.DefaultRise-1)
		p.wantTold(t)
		p.nextCheck(a, 1)
		p.wantTold(t, "up "+a)
		if got := p.state(a); got.State != backend.Up || got.LastError == nil || got.Since.Before(got.LastErrorAt) {
			t.Errorf("after the rise: %+v", got)
		}
	}, a, b)
}

// An address that fails now and then stays in service; one that is down and
// succeeds now and then stays out.
func TestHealth_Flapping(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *checked) {
		p.forgetTold()
		for range 5 {
			p.set(sick, a)
			p.nextCheck(a, backend.DefaultFall-1)
			p.set(serves, a)
			p.nextCheck(a, 1)
		}
		p.wantTold(t)
		p.set(sick, a)
		p.nextCheck(a, backend.DefaultFall)
		p.wantTold(t, "down "+a+" 0")
		for range 5 {
			p.set(serves, a)
			p.nextCheck(a, backend.DefaultRise-1)
			p.set(sick, a)
			p.nextCheck(a, 1)
		}
		p.wantTold(t)
	}, a)
}

// The first check decides at once: there is nothing to wait for.
func TestHealth_FirstCheckDecides(t *testing.T) {
	inBubble(t, func(n *network) { n.set(refuses, a) }, func(t *testing.T, p *checked) {
		p.wantTold(t, "added "+a, "down "+a+" 0")
		p.set(serves, a)
		p.nextCheck(a, backend.DefaultRise)
		p.wantTold(t, "up "+a)
	}, a)
}

// A connection that fails takes an address out at once, and one check that
// succeeds brings it back, unless so many have failed that it stays out.
func TestHealth_CheckEndsPassiveMark(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *checked) {
		p.forgetTold()
		p.set(refuses, a)
		mustDial(t, p.Pool, client)
		mustDial(t, p.Pool, client)
		p.wantTold(t, "down "+a+" 1")
		p.set(serves, a)
		p.nextCheck(a, 1)
		p.wantTold(t, "up "+a)

		p.set(refuses, a)
		mustDial(t, p.Pool, client)
		mustDial(t, p.Pool, client)
		mustDial(t, p.Pool, client)
		p.nextCheck(a, backend.DefaultFall)
		p.wantTold(t, "down "+a+" 1")
		time.Sleep(time.Minute)
		p.forgetDialled()
		mustDial(t, p.Pool, client)
		p.wantDialled(t, "[2001:db8::2]:25") // no client tries it any more
		p.set(serves, a)
		p.nextCheck(a, backend.DefaultRise-1)
		p.wantTold(t)
		p.nextCheck(a, 1)
		p.wantTold(t, "up "+a)
	}, a, b)
}

func (n *network) forgetDialled() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialled = nil
}

// Our own faults are told of checks, and nothing follows from them.
func TestHealth_OwnFaults(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, p *checked) {
		p.forgetTold()
		p.set(ours, a)
		p.nextCheck(a, 2*backend.DefaultFall)
		p.wantTold(t)
		if got := p.state(a); got.State != backend.Up || got.LastError == nil {
			t.Errorf("%+v", got)
		}
	}, a)
}

// What was never reached for want of an address of ours, such as ::1 without
// IPv6, is down; where ports ran out, nothing follows.
func TestHealth_NoWay(t *testing.T) {
	inBubble(t, func(n *network) { n.set(noWay, b) }, func(t *testing.T, p *checked) {
		p.set(noWay, a)
		p.nextCheck(a, 2*backend.DefaultFall)
		for range 10 {
			if _, err := p.Dial(t.Context(), client, nil); !errors.Is(err, syscall.EADDRNOTAVAIL) {
				t.Fatal(err)
			}
		}
		if p.state(a).State != backend.Up || p.state(b).State != backend.Down {
			t.Errorf("%+v\n%+v", p.state(a), p.state(b))
		}
	}, a, b)
}

// A check has its time, the connection included, and a pause of a tenth more
// or less than the interval follows.
func TestHealth_TimeoutAndInterval(t *testing.T) {
	inBubble(t, func(n *network) { n.set(drops, a) }, func(t *testing.T, p *checked) {
		began := time.Now()
		p.nextCheck(a, 1)
		if took := time.Since(began); took < backend.DefaultCheckTimeout || took > backend.DefaultCheckTimeout+200*time.Millisecond {
			t.Errorf("the first check took %v", took)
		}
		var pauses []time.Duration
		for range 20 {
			began := time.Now()
			p.nextCheck(a, 1)
			pauses = append(pauses, time.Since(began)-backend.DefaultCheckTimeout)
		}
		slices.Sort(pauses)
		least, most := pauses[0], pauses[len(pauses)-1]
		if least < 8900*time.Millisecond || most > 11200*time.Millisecond || least == most {
			t.Errorf("pauses of %v", pauses)
		}
		if !errors.Is(p.state(a).LastError, context.DeadlineExceeded) {
			t.Errorf("%v", p.state(a).LastError)
		}
	}, a)
}

func TestHealth_FactsAreThoseOfTheNewestGoodCheck(t *testing.T) {
	inBubble(t, func(n *network) { n.set(sick, a, b) }, func(t *testing.T, p *checked) {
		if got := p.Facts(); got != nil {
			t.Errorf("facts before any good check: %v", got)
		}
		p.set(serves, a)
		p.nextCheck(a, 1)
		if got := p.Facts(); got != a {
			t.Errorf("facts %v", got)
		}
		p.set(sick, a)
		p.set(serves, b)
		p.nextCheck(b, 1)
		p.nextCheck(a, 1)
		if got := p.Facts(); got != b {
			t.Errorf("facts %v", got)
		}
	}, a, b)
}

// Close ends a check that is under way, and no event comes behind it.
func TestHealth_Close(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		entered := make(chan struct{})
		p := n.pool(t, func(config *backend.Config) {
			config.Health.Interval = time.Second
			config.Check = func(ctx context.Context, _ net.Conn) (any, error) {
				close(entered)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			config.Events.Checked = func(string, error) { t.Error("a check that was broken off was told") }
		}, a)
		p.Start()
		<-entered
		n.wantTold(t, "added "+a)
		p.Close()
		p.Close()
		n.wantTold(t)
		if got := p.Status()[0].State; got != backend.Unknown {
			t.Errorf("state %v", got)
		}
	})
}

// CheckNow tells of each address, and leaves no trace.
func TestCheckNow(t *testing.T) {
	n := newNetwork()
	n.set(sick, b)
	n.set(refuses, "/run/c")
	n.host("mail.example", "192.0.2.8", "192.0.2.9")
	n.set(refuses, "192.0.2.8:25")
	p := n.pool(t, nil, a, b, c, "mail.example:25", "none.example:25")
	good, err := p.CheckNow(t.Context())
	const want = `backend mta: lookup none.example: no such host
backend mta: address [2001:db8::2]:25: greets with 421
backend mta: dial unix /run/c: connection refused
backend mta: dial tcp 192.0.2.8:25: connection refused`
	if good != 2 || err == nil || err.Error() != want {
		t.Errorf("%d are good, and: %v", good, err)
	}
	for _, s := range p.Status() {
		if s.State != backend.Unknown || s.Open != 0 {
			t.Errorf("status %+v", s)
		}
	}
	if good, err := n.pool(t, nil, a).CheckNow(t.Context()); good != 1 || err != nil {
		t.Errorf("%d are good, and: %v", good, err)
	}
}

func TestState(t *testing.T) {
	for state, want := range map[backend.State]string{backend.Unknown: "unknown", backend.Up: "up", backend.Down: "down"} {
		if got := state.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
