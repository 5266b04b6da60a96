package backend_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is any.
var client = netip.MustParseAddr("198.51.100.7")

// way is how an address answers.
type way int

const (
	serves  way = iota // also what an address does that nothing was said of
	refuses            // the connection
	drops              // packets, so that a try runs into its time-out
	sick               // takes connections, and fails checks
	ours               // we have no file descriptor left
	noWay              // we have no address, or no port, to reach it from
)

// network is a network in memory, with a DNS.
type network struct {
	mu      sync.Mutex
	ways    map[string]way
	dialled []string
	checked map[string]int
	hosts   map[string][]netip.Addr
	asked   int
	told    []string // events
}

func newNetwork() *network {
	return &network{ways: make(map[string]way), checked: make(map[string]int), hosts: make(map[string][]netip.Addr)}
}

// config is one of a pool in this network. Checks are off.
func (n *network) config(addresses ...string) backend.Config {
	tell := func(words ...string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		text := words[0]
		for _, word := range words[1:] {
			text += " " + word
		}
		n.told = append(n.told, text)
	}
	return backend.Config{
		Name: "mta", Addresses: addresses, DialContext: n.dial, Resolver: n, Check: n.check,
		Health: backend.HealthCheck{Interval: -1},
		Events: backend.Events{
			Added:        func(address, _ string) { tell("added", address) },
			Removed:      func(address, _ string) { tell("removed", address) },
			Up:           func(address string, down time.Duration) { tell("up", address) },
			Down:         func(address string, err error, left int) { tell("down", address, string(rune('0'+left))) },
			LookupFailed: func(host string, _ error, _ int) { tell("lookup", host) },
		},
	}
}

// pool makes one that is closed with the test; change may be nil.
func (n *network) pool(t testing.TB, change func(*backend.Config), addresses ...string) *backend.Pool {
	t.Helper()
	config := n.config(addresses...)
	if change != nil {
		change(&config)
	}
	p, err := backend.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func (n *network) set(w way, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, address := range addresses {
		n.ways[address] = w
	}
}

func (n *network) is(address string) way {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ways[address]
}

// memory is a connection that knows where it goes.
type memory struct {
	net.Conn
	address string
}

// RemoteAddr is where the connection leads.
func (c *memory) RemoteAddr() net.Addr { return &net.UnixAddr{Name: c.address} }

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dialled = append(n.dialled, address)
	n.mu.Unlock()
	failed := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: kind + " " + address, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return failed(err)
	}
	switch n.is(address) {
	case refuses:
		return failed(syscall.ECONNREFUSED)
	case drops:
		<-ctx.Done()
		return failed(ctx.Err())
	case ours:
		return failed(syscall.EMFILE)
	case noWay:
		return failed(syscall.EADDRNOTAVAIL)
	}
	here, there := net.Pipe()
	there.Close()
	return &memory{here, address}, nil
}

var errSick = errors.New("greets with 421")

func (n *network) check(_ context.Context, c net.Conn) (any, error) {
	address := c.(*memory).address
	n.mu.Lock()
	defer n.mu.Unlock()
	n.checked[address]++
	if n.ways[address] == sick {
		return nil, errSick
	}
	return address, nil
}

// LookupNetIP answers from hosts. The name stuck hangs until the context ends.
func (n *network) LookupNetIP(ctx context.Context, kind, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	n.asked++
	ips, ok := n.hosts[host]
	n.mu.Unlock()
	switch {
	case kind != "ip":
		return nil, errors.New("not asked for A and AAAA")
	case host == "stuck":
		<-ctx.Done()
		return nil, ctx.Err()
	case !ok:
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return slices.Clone(ips), nil
}

// host sets the records of a name; none removes it.
func (n *network) host(name string, ips ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.hosts, name)
	for _, ip := range ips {
		n.hosts[name] = append(n.hosts[name], netip.MustParseAddr(ip))
	}
}

// wantDialled holds what was dialled since the last time, in its order.
func (n *network) wantDialled(t testing.TB, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.dialled, want) {
		t.Errorf("dialled %q, want %q", n.dialled, want)
	}
	n.dialled = nil
}

// wantTold holds what was told since the last time, in its order.
func (n *network) wantTold(t testing.TB, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.told, want) {
		t.Errorf("told %q, want %q", n.told, want)
	}
	n.told = nil
}

// mustDial dials for a client and returns where that led.
func mustDial(t testing.TB, p *backend.Pool, from netip.Addr) (net.Conn, string) {
	t.Helper()
	conn, err := p.Dial(t.Context(), from, nil)
	if err != nil {
		t.Fatal(err)
	}
	name := conn.RemoteAddr().String()
	return conn, name
}
