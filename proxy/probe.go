package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// probeTimeout bounds the talk with one address behind the connect.
const probeTimeout = 10 * time.Second

// CheckBackend tells which of a backend's addresses do not greet as an SMTP
// server that expects our PROXY header. It takes its leave with QUIT: to
// connect and hang up makes some servers count an error.
func CheckBackend(ctx context.Context, b Backend) error {
	format := headerFormat(b)
	var errs []error
	for _, address := range b.Addresses {
		one := backend.Backend{Name: b.Name, Addresses: []string{address}, ConnectTimeout: b.ConnectTimeout}
		conn, err := one.Dial(ctx)
		if err == nil {
			err = probe(ctx, conn, format)
			conn.Close()
			if err != nil {
				err = fmt.Errorf("backend %s: address %s: %w", b.Name, address, err)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func probe(ctx context.Context, conn net.Conn, format proxyheader.Format) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(probeTimeout)); err != nil {
		return err
	}
	header, err := format.Probe(orLoopback(conn.LocalAddr()), orLoopback(conn.RemoteAddr()))
	if err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	if _, err := conn.Write(header); err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	greeting, err := starttls.ReadGreeting(conn)
	if err == nil {
		err = checkGreeting(greeting)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return noGreeting(err, format.Version)
	case !greeting.Ready():
		return fmt.Errorf("its greeting refuses clients: %s", escape.Field(string(bytes.TrimSpace(greeting.Text))))
	}
	if _, err := conn.Write([]byte("QUIT\r\n")); err == nil {
		_, _ = starttls.ReadGreeting(conn) // the reply has the same form, and no meaning here
	}
	return nil
}

// orLoopback gives an address to an end that has none, that of a unix socket:
// a version 1 header needs two.
func orLoopback(a net.Addr) netip.AddrPort {
	if ap := backend.AddrPort(a); ap.IsValid() {
		return ap
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 25)
}
