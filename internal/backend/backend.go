// Package backend opens connections to the SMTP servers behind the proxy.
//
// A [Pool] is one backend under all its addresses. [Pool.Dial] connects to the
// one that is due, and to the next when that fails, before the client notices.
// [Pool.Start] begins what keeps the pool current until [Pool.Close]: host
// names are looked up again, and each address is checked.
//
// What a check says to a server is the caller's: the package speaks no SMTP.
// It logs and counts nothing either; [Events] tells the caller of what there
// is to tell. A Pool is safe for concurrent use.
package backend

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Defaults of Config.
const (
	// DefaultConnectTimeout is how long one address may take to accept.
	DefaultConnectTimeout = 10 * time.Second
	// DefaultLookupInterval is about the time to live of records that are
	// meant to change; Kubernetes' own have 30 seconds at most.
	DefaultLookupInterval = 30 * time.Second
	DefaultCheckInterval  = 10 * time.Second
	DefaultCheckTimeout   = 5 * time.Second
	DefaultRise           = 2
	DefaultFall           = 3
)

// Config is what a Pool is made of. It is not changed once it is in use.
type Config struct {
	Name string
	// Addresses are "host:port", where every address of a host name counts by
	// itself, or "unix:" and a path.
	Addresses []string
	Balance   Balance
	// ConnectTimeout bounds each try. 0 means DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// Check tells whether the server at the other end of a fresh connection
	// takes mail, and what the caller wants to know of it. It must end with
	// its context, and leaves the closing to the Pool. nil is no checks.
	Check  func(context.Context, net.Conn) (facts any, err error)
	Health HealthCheck
	Events Events

	// LookupInterval is the time between two look-ups of host names. 0 means
	// DefaultLookupInterval.
	LookupInterval time.Duration
	// Resolver and DialContext stand in for package net in tests.
	Resolver    Resolver
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
}

// HealthCheck says when addresses are checked and what becomes of it. Zero
// fields have the default.
type HealthCheck struct {
	Interval time.Duration // between two checks of an address; negative is no checks
	Timeout  time.Duration // of a whole check
	Rise     int           // good checks in a row that bring an address back
	Fall     int           // bad checks in a row that take it out
}

// Events are called when something happened, one at a time and in its order.
// They must not call the Pool. Those that are nil are not called.
type Events struct {
	// Added and Removed tell of the addresses that the Pool has, and of the
	// host name that they stand for, if any.
	Added, Removed func(address, host string)
	// Up tells that an address is in service, for the first time or again
	// after it was down for so long.
	Up func(address string, down time.Duration)
	// Down tells that an address is out of service, why, and how many are left.
	Down func(address string, err error, left int)
	// Checked tells of every check; err is nil for a good one.
	Checked func(address string, err error)
	// LookupFailed tells that a host name could not be looked up, once until it
	// can be again, and how many addresses are left: those that it had stay.
	LookupFailed func(host string, err error, left int)
}

// Resolver looks up the addresses of a host name; *net.Resolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// withDefaults fills in the zero fields.
func (c Config) withDefaults() Config {
	setDefault(&c.Balance, LeastConnections)
	setDefault(&c.ConnectTimeout, DefaultConnectTimeout)
	setDefault(&c.LookupInterval, DefaultLookupInterval)
	setDefault(&c.Health.Interval, DefaultCheckInterval)
	setDefault(&c.Health.Timeout, DefaultCheckTimeout)
	setDefault(&c.Health.Rise, DefaultRise)
	setDefault(&c.Health.Fall, DefaultFall)
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.DialContext == nil {
		c.DialContext = new(net.Dialer).DialContext
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Network is the network of an address, for package net.
func Network(address string) string {
	if strings.HasPrefix(address, "unix:") {
		return "unix"
	}
	return "tcp"
}

// AddrPort is the IP address of one end of a connection, in the form that is
// compared and shown: IPv4 as IPv4 even on a dual-stack socket. It is the
// zero value for an end that has none.
func AddrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
