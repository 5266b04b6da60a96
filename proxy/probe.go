package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

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

// probed is what a probe finds out about a backend: its name and what it offers.
type probed struct{ starttls.Identity }

// probe talks to a backend as far as it goes without a client. It takes its
// leave with QUIT and waits for the reply: to connect and hang up ends a process
// of Postfix with a fatal error. The caller closes the connection.
func probe(ctx context.Context, conn net.Conn, format proxyheader.Format) (*probed, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(past) })
	defer stop()
	header, err := format.Probe(orLoopback(conn.LocalAddr()), orLoopback(conn.RemoteAddr()))
	if err == nil {
		_, err = conn.Write(header)
	}
	if err != nil {
		return nil, fmt.Errorf("PROXY header: %w", err)
	}
	identity, err := starttls.Probe(conn, probeName())
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	if err = probeFailure(err, format.Version); err != nil {
		return nil, err
	}
	return &probed{identity}, nil
}

// probeFailure says what a probe that failed most often wants. A backend that
// only takes no proper leave serves clients.
func probeFailure(err error, version int) error {
	failed, ok := errors.AsType[*starttls.StepError](err)
	switch {
	case err == nil, ok && failed.Step == "QUIT":
		return nil
	case ok && failed.Code/100 == 3:
		return noGreeting(fmt.Errorf("%w: %s", starttls.ErrGreeting, escape.Field(failed.Reply)), version)
	case ok && failed.Code != 0:
		return fmt.Errorf("its %s refuses clients: %s", answers[failed.Step], escape.Field(failed.Reply))
	case ok && failed.Step == "greeting":
		return noGreeting(failed.Err, version)
	}
	return err
}

// answers are what a backend says at each step of a probe.
var answers = map[string]string{"greeting": "greeting", "EHLO": "reply to EHLO"}

// probeName is what our EHLO says to a backend that is probed.
func probeName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}

// orLoopback gives an address to an end that has none, that of a unix socket:
// a version 1 header needs two.
func orLoopback(a net.Addr) netip.AddrPort {
	if ap := backend.AddrPort(a); ap.IsValid() {
		return ap
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 25)
}
