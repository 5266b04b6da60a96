package backend

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// address is one place to connect to. All but the first two fields need the
// mutex of its Pool.
type address struct {
	network string
	name    string // for package net, and as it is shown; "unix:" stands before a path

	listed bool   // it is one of those to dial
	host   string // the configured one that it is of, for host names
	open   int    // connections, and tries to make one
	taken  uint64 // when it was last dialled, counted in dials
	health
	unwatch context.CancelFunc // ends its checks
}

// dialled is the address in the form of package net.
func (a *address) dialled() string { return strings.TrimPrefix(a.name, "unix:") }

// source is an address of the configuration: of its own, or a host name that
// stands for any number. The last four fields need the mutex of its Pool.
type source struct {
	configured string
	host, port string        // of a host name only
	asking     chan struct{} // a lock that can be waited for with a context

	names  []string // of addresses; for good if it is no host name
	asked  time.Time
	err    error // of the newest look-up
	failed bool  // that was told
}

// newSource takes an address of the configuration apart.
func newSource(configured string) (*source, error) {
	s := &source{configured: configured}
	if Network(configured) == "unix" {
		s.names = []string{configured}
		return s, nil
	}
	host, port, err := net.SplitHostPort(configured)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		s.names = []string{configured}
		return s, nil
	}
	s.host, s.port, s.asking = host, port, make(chan struct{}, 1)
	return s, nil
}

// found turns the addresses of a look-up into names, the same ones whatever
// the order of the records.
func (s *source) found(ips []netip.Addr) []string {
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	ips = slices.Compact(ips)
	var names []string
	for _, ip := range ips[:min(len(ips), maxOfHost)] {
		names = append(names, net.JoinHostPort(ip.String(), s.port))
	}
	return names
}

// maxOfHost bounds the addresses of one host name, and with them the checks
// and the series of metrics that an answer of the DNS can bring about.
const maxOfHost = 64

// conn is a connection that counts as open until it is closed.
type conn struct {
	net.Conn
	released sync.Once
	release  func()
}

// Close may be called more than once.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.released.Do(c.release)
	return err
}

// CloseWrite ends our direction, where the connection has two.
func (c *conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}
