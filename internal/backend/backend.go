// Package backend opens connections to the SMTP servers behind the proxy.
package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// DefaultConnectTimeout is how long one address may take to accept.
const DefaultConnectTimeout = 10 * time.Second

// Backend is an SMTP server that is reached under one or more addresses. It
// is not changed once it is in use, and is safe for concurrent use.
type Backend struct {
	Name string
	// Addresses are tried in order: "host:port", or "unix:" and a path.
	Addresses []string
	// ConnectTimeout bounds each try. 0 means DefaultConnectTimeout.
	ConnectTimeout time.Duration
}

// Dial connects to the first address that accepts. The caller closes the
// connection. The error tells what each address said.
func (b *Backend) Dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: b.ConnectTimeout}
	if dialer.Timeout == 0 {
		dialer.Timeout = DefaultConnectTimeout
	}
	var errs []error
	for _, address := range b.Addresses {
		conn, err := dialer.DialContext(ctx, Network(address), strings.TrimPrefix(address, "unix:"))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("backend %s: %w", b.Name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
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
