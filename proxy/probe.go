package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
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
		d, err := newDestination(one, probeName())
		if err != nil {
			return err
		}
		pool, err := newPool(d, backend.Events{})
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
func (o *opening) probe(ctx context.Context, conn net.Conn) (*probed, error) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(past) })
	defer stop()
	identity, err := o.ask(conn)
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, o.probeFailure(err)
	}
	return &probed{identity}, nil
}

// ask begins the connection as a session does, but for the client.
func (o *opening) ask(conn net.Conn) (starttls.Identity, error) {
	var header []byte
	if o.sendsHeader() {
		var err error
		if header, err = o.header.Probe(orLoopback(conn.LocalAddr()), orLoopback(conn.RemoteAddr())); err != nil {
			return starttls.Identity{}, fmt.Errorf("PROXY header: %w", err)
		}
	}
	stream, greeting, err := o.greet(conn, header)
	if err != nil {
		return starttls.Identity{}, err
	}
	if !greeting.Ready() {
		return starttls.Identity{}, refusedBy("greeting", greeting.Text)
	}
	identity, err := starttls.ProbeGreeted(stream, o.name)
	if failed, ok := errors.AsType[*starttls.StepError](err); ok && failed.Step == "QUIT" {
		err = nil // a backend that only takes no proper leave serves clients
	}
	if err == nil {
		err = o.checkXCLIENT(identity.XCLIENT)
	}
	return identity, err
}

// probeFailure says what a probe that failed most often wants.
func (o *opening) probeFailure(err error) error {
	failed, ok := errors.AsType[*starttls.StepError](err)
	switch {
	case ok && failed.Step == "EHLO" && failed.Code/100 == 3:
		return o.noGreeting(fmt.Errorf("%w: %s", starttls.ErrGreeting, escape.Field(failed.Reply)))
	case ok && failed.Step == "EHLO" && failed.Code != 0:
		return refusedBy("reply to EHLO", []byte(failed.Reply))
	}
	return err
}

// refusedBy is the fault of a backend whose answer is none for clients.
func refusedBy(answer string, text []byte) error {
	text = bytes.TrimSpace(text)
	return fmt.Errorf("its %s refuses clients: %s", answer, escape.Field(string(text[:min(len(text), maxRefusal)])))
}

// maxRefusal is how much of a reply is shown.
const maxRefusal = 255

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
