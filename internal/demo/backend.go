package demo

import (
	"errors"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/pires/go-proxyproto"
)

const (
	maxMessage       = 50 << 20
	headerTimeout    = 10 * time.Second
	commandTimeout   = 5 * time.Minute // RFC 5321 section 4.5.3.2.7
	maxRecipients    = 100             // RFC 5321 section 4.5.3.1.8
	maxTextLine      = 64 << 10        // more than the 1000 of RFC 5321 section 4.5.3.1.6: show, do not judge
	greetingHostname = "localhost"
)

// ErrServerClosed is returned by [Backend.Serve] after [Backend.Close].
var ErrServerClosed = errors.New("demo backend closed")

// Backend is an SMTP server that demands a PROXY header, accepts every message
// and prints it. Behind a header that tells of TLS it offers AUTH PLAIN, as
// Dovecot and Stalwart do, and takes any password.
type Backend struct {
	server *smtp.Server

	mu        sync.Mutex // guards what follows
	closed    bool
	listeners []net.Listener
}

// NewBackend returns a backend that prints to out, one Write a message.
func NewBackend(out io.Writer) *Backend {
	p := &printer{out: out}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{printer: p, client: clientOf(c)}, nil
	}))
	server.Domain = greetingHostname
	server.AllowInsecureAuth = true // TLS ends at the proxy; see session.AuthMechanisms
	server.EnableSMTPUTF8 = true
	server.MaxMessageBytes = maxMessage
	server.MaxRecipients = maxRecipients
	server.MaxLineLength = maxTextLine
	server.ReadTimeout = commandTimeout
	server.WriteTimeout = commandTimeout
	server.ErrorLog = log.New(faults{p}, "", 0)
	return &Backend{server: server}
}

// Serve answers the connections of l until [Backend.Close], then returns
// [ErrServerClosed]. It closes l. The error is never nil.
func (b *Backend) Serve(l net.Listener) error {
	defer l.Close()
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return ErrServerClosed
	}
	b.listeners = append(b.listeners, l)
	b.mu.Unlock()

	err := b.server.Serve(&proxyproto.Listener{
		Listener: l,
		// Said, not left to the default, which has changed between releases.
		ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			return proxyproto.REQUIRE, nil
		},
		ReadHeaderTimeout: headerTimeout,
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrServerClosed
	}
	return err
}

// Close ends all connections and every Serve.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrServerClosed
	}
	b.closed = true
	var errs []error
	for _, l := range b.listeners {
		errs = append(errs, l.Close())
	}
	// It closes the listeners again, where it knows them: its error is about that.
	_ = b.server.Close()
	return errors.Join(errs...)
}

// session is one SMTP session; go-smtp calls its methods in turn.
type session struct {
	printer *printer
	client  client
	user    string // who authenticated, if anyone did
	from    string
	to      []string
}

// AuthMechanisms offers AUTH where the client's part of the way is encrypted.
func (s *session) AuthMechanisms() []string {
	if !s.client.tls {
		return nil
	}
	return []string{sasl.Plain}
}

// Auth takes any password.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch {
	case !s.client.tls: // RFC 4954 section 6
		return nil, &smtp.SMTPError{Code: 538, EnhancedCode: smtp.EnhancedCode{5, 7, 11},
			Message: "Encryption required for requested authentication mechanism"}
	case mechanism != sasl.Plain:
		return nil, smtp.ErrAuthUnknownMechanism
	}
	return sasl.NewPlainServer(func(_, user, _ string) error {
		s.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

// Data reads a message to its end, then prints it.
func (s *session) Data(r io.Reader) error {
	shown, err := io.ReadAll(io.LimitReader(r, maxShown))
	if err != nil {
		return err
	}
	cut, err := io.Copy(io.Discard, r)
	if err != nil {
		return err
	}
	s.printer.print(s, string(shown), cut)
	return nil
}

func (s *session) Reset() { s.from, s.to = "", nil }

func (s *session) Logout() error { return nil }
