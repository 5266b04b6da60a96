package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/clientname"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/proxyheader"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// opening is how a connection to a backend begins, for sessions and health
// checks alike: the PROXY header, TLS, the greeting, and XCLIENT. It never
// changes.
type opening struct {
	info   ClientInfo
	header proxyheader.Format
	mode   BackendTLSMode
	tls    *tls.Config // nil for plain text
	name   string      // of our EHLO
}

func newOpening(b Backend, hostname string) (*opening, error) {
	o := &opening{info: b.ClientInfo, mode: b.TLS.Mode, name: hostname, header: proxyheader.Format{Version: 2, MaxBytes: b.MaxHeaderBytes}}
	if b.ClientInfo == ProxyV1 {
		o.header.Version = 1
	}
	for _, name := range b.ProxyTLVs {
		o.header.TLVs = append(o.header.TLVs, proxyheader.TLV(name))
	}
	if b.TLS.Mode == PlainText {
		return o, nil
	}
	// In so many words, or GODEBUG in the environment could weaken it.
	strong, err := tlsopts.Options{}.Config()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	o.tls = &tls.Config{
		MinVersion: strong.MinVersion, CipherSuites: strong.CipherSuites, CurvePreferences: strong.CurvePreferences,
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	if b.TLS.Certificate != nil {
		o.tls.Certificates = []tls.Certificate{*b.TLS.Certificate}
	}
	if err := b.TLS.Auth.Apply(o.tls); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return o, nil
}

// sendsHeader tells whether the PROXY protocol is spoken.
func (o *opening) sendsHeader() bool { return o.info == ProxyV1 || o.info == ProxyV2 }

// greet writes the header, which is one write and nil for none, and reads the
// greeting, whatever it says; TLS comes where it belongs. It returns the
// connection in the form in which it speaks SMTP. The caller sets the deadline,
// and closes the connection.
func (o *opening) greet(conn net.Conn, header []byte) (net.Conn, starttls.Greeting, error) {
	if header != nil {
		if _, err := conn.Write(header); err != nil {
			return nil, starttls.Greeting{}, &phaseError{metrics.BackendHeader, fmt.Errorf("PROXY header: %w", err)}
		}
	}
	if o.mode == BackendImplicit {
		var err error
		if conn, err = o.secure(conn); err != nil {
			return nil, starttls.Greeting{}, err
		}
	}
	greeting, err := starttls.ReadGreeting(conn)
	if err == nil {
		err = checkGreeting(greeting)
	}
	if err != nil {
		return nil, greeting, &phaseError{greetingFailure(err), o.noGreeting(err)}
	}
	if o.mode != BackendSTARTTLS || !greeting.Ready() {
		return conn, greeting, nil
	}
	if err := starttls.Upgrade(conn, o.name); err != nil {
		return nil, greeting, &phaseError{metrics.BackendTLS, err}
	}
	conn, err = o.secure(conn)
	return conn, greeting, err
}

// secure does the TLS handshake.
func (o *opening) secure(conn net.Conn) (net.Conn, error) {
	secured := tls.Client(conn, o.tls)
	if err := secured.Handshake(); err != nil {
		return nil, &phaseError{metrics.BackendTLS, fmt.Errorf("TLS to the backend: %w", err)}
	}
	return secured, nil
}

// xclient tells a backend that has greeted who the client is, and returns its
// greeting for that client.
func (o *opening) xclient(conn net.Conn, client proxyheader.Client) (starttls.Greeting, error) {
	greeting, err := starttls.XCLIENT(conn, o.name, func(attributes []string) ([]string, error) {
		return proxyheader.XCLIENT(client, attributes)
	})
	if failed, ok := errors.AsType[*starttls.StepError](err); ok && failed.Step == "XCLIENT" {
		err = fmt.Errorf("%w; does the backend authorize this proxy, as Postfix does with smtpd_authorized_xclient_hosts?", err)
	}
	if err != nil {
		return greeting, &phaseError{metrics.BackendXCLIENT, err}
	}
	return greeting, nil
}

// noGreeting says what a backend that does not greet most often wants.
func (o *opening) noGreeting(err error) error {
	switch {
	case o.mode == BackendImplicit:
		return fmt.Errorf("no greeting: %w", err)
	case !o.sendsHeader():
		return fmt.Errorf("no greeting: %w; does it expect a PROXY header, or TLS, at this address?", err)
	}
	return fmt.Errorf("no greeting: %w; does it expect the PROXY header (version %d) of this address?", err, o.header.Version)
}

func greetingFailure(err error) metrics.BackendError {
	switch {
	case isTimeout(err):
		return metrics.BackendGreetingTimeout
	case hungUp(err), errors.Is(err, io.ErrUnexpectedEOF):
		return metrics.BackendGreetingEOF
	}
	return metrics.BackendGreetingInvalid
}

// checkGreeting refuses what is neither consent nor refusal: a client that got
// it as a reply would act on it.
func checkGreeting(g starttls.Greeting) error {
	if g.Code/100 == 3 {
		return fmt.Errorf("%w: code %d", starttls.ErrGreeting, g.Code)
	}
	return nil
}

// maxNameLookup bounds the look-up of a client's name.
const maxNameLookup = 5 * time.Second

// xclientFacts are what XCLIENT tells of the session. Postfix does not look up
// the name of a client that it is told of, and knew that of the proxy before.
func (s *session) xclientFacts() proxyheader.Client {
	ctx, cancel := context.WithTimeout(s.srv.draining, maxNameLookup)
	defer cancel()
	names := clientname.Lookup(ctx, net.DefaultResolver, s.client.Addr())
	unknown := proxyheader.NameUnavailable
	if names.Temporary {
		unknown = proxyheader.NameTemporarilyGone
	}
	c := proxyheader.Client{Address: s.client, Local: s.local, Name: names.Verified, Reverse: names.Reverse}
	for _, name := range []*string{&c.Name, &c.Reverse} {
		if *name == "" {
			*name = unknown
		}
	}
	if s.plaintext != nil {
		c.Helo, c.ESMTP = s.plaintext.Name()
	}
	return c
}

// errNoXCLIENT is the fault of a backend that health checks find.
var errNoXCLIENT = errors.New("it does not offer XCLIENT with ADDR: clients would seem to be the proxy; does it authorize this proxy, as Postfix does with smtpd_authorized_xclient_hosts?")

// checkXCLIENT tells whether a backend can learn who clients are.
func (o *opening) checkXCLIENT(offered []string) error {
	if o.info == XCLIENT && !proxyheader.CanXCLIENT(offered) {
		return errNoXCLIENT
	}
	return nil
}
