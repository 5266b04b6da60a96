package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// CheckBackend tells which of a backend's addresses do not greet as an SMTP
// server that expects our PROXY header, as the health checks do it. Of the
// addresses of a host name one is enough.
func CheckBackend(ctx context.Context, b Backend) error {
	var errs []error
	for _, address := range b.Addresses {
		one := b
		one.Addresses = []string{address}
		pool, err := newPool(one, backend.Events{})
		if err == nil {
			var good int
			if good, err = pool.CheckNow(ctx); good > 0 {
				err = nil
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// probed is what a probe finds out about a backend.
type probed struct {
	greeting []byte // with its line ends
}

// probe talks to a backend as far as it goes without a client, one step after
// the other. It takes its leave with QUIT and waits for the reply: to connect
// and hang up ends a process of Postfix with a fatal error. The caller closes
// the connection.
func probe(ctx context.Context, conn net.Conn, format proxyheader.Format) (*probed, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(past) })
	defer stop()
	greeting, err := probeGreeting(conn, format)
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte("QUIT\r\n")); err == nil {
		_, _ = starttls.ReadGreeting(conn) // the reply has the same form, and no meaning here
	}
	return &probed{greeting: greeting}, nil
}

// probeGreeting sends the header of a connection of our own, and returns the
// greeting of a backend that takes mail.
func probeGreeting(conn net.Conn, format proxyheader.Format) ([]byte, error) {
	header, err := format.Probe(orLoopback(conn.LocalAddr()), orLoopback(conn.RemoteAddr()))
	if err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	if _, err := conn.Write(header); err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	greeting, err := starttls.ReadGreeting(conn)
	if err == nil {
		err = checkGreeting(greeting)
	}
	switch {
	case err != nil:
		return nil, noGreeting(err, format.Version)
	case !greeting.Ready():
		return nil, fmt.Errorf("its greeting refuses clients: %s", escape.Field(string(bytes.TrimSpace(greeting.Text))))
	}
	return greeting.Text, nil
}

// orLoopback gives an address to an end that has none, that of a unix socket:
// a version 1 header needs two.
func orLoopback(a net.Addr) netip.AddrPort {
	if ap := backend.AddrPort(a); ap.IsValid() {
		return ap
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 25)
}
