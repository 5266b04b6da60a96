package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

const (
	maxReply     = 8 << 10
	maxEHLOReply = 64 << 10
	maxFirst     = 512 // bytes that are kept to tell what was spoken instead
)

// link is one connection to the server.
type link struct {
	conn    net.Conn // the tap, or TLS over it
	tap     *tap
	timeout time.Duration
	ehlo    string
	stop    func() bool
}

// tap keeps the first bytes that the server sent since it was emptied: crypto/tls
// gives five of what was no TLS, too few to tell what it was.
type tap struct {
	net.Conn
	first []byte
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.first = append(t.first, p[:min(n, maxFirst-len(t.first))]...)
	return n, err
}

// open connects. The end of ctx closes the connection. The caller closes it, too.
func (o *Options) open(ctx context.Context, address string) (*link, error) {
	dialer := net.Dialer{Timeout: o.Timeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	l := &link{tap: &tap{Conn: conn}, timeout: o.Timeout, ehlo: o.EHLO}
	l.conn = l.tap
	l.stop = context.AfterFunc(ctx, func() { conn.Close() })
	if l.ehlo == "" {
		l.ehlo = literal(conn.LocalAddr())
	}
	return l, nil
}

func (l *link) close() {
	l.stop()
	l.conn.Close()
}

// literal is our end as EHLO names one that has no name (RFC 5321 section 4.1.3).
func literal(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	switch {
	case !ok:
		return "localhost"
	case tcp.IP.To4() != nil:
		return "[" + tcp.IP.String() + "]"
	}
	return "[IPv6:" + tcp.IP.String() + "]"
}

// arm begins a step, which has one absolute deadline: a server that sends a byte
// now and then does not hold us.
func (l *link) arm() { l.tap.SetDeadline(time.Now().Add(l.timeout)) }

// say says a command and reads the reply.
func (l *link) say(command string, limit int) (starttls.Greeting, error) {
	l.arm()
	if _, err := io.WriteString(l.conn, command+"\r\n"); err != nil {
		return starttls.Greeting{}, err
	}
	return starttls.ReadReply(l.conn, limit)
}

// greeting reads what the server says first.
func (l *link) greeting() (starttls.Greeting, error) {
	l.arm()
	return starttls.ReadReply(l.conn, maxReply)
}

// secure does the handshake.
func (l *link) secure(config *tls.Config) (*tls.Conn, error) {
	l.arm()
	l.tap.first = nil
	secured := tls.Client(l.tap, config)
	l.conn = secured
	return secured, secured.Handshake()
}

// tryHandshake is a connection of its own up to the handshake, for which the
// error is; it is nil as well where the server's certificate is not acceptable.
func (o *Options) tryHandshake(ctx context.Context, address string, config *tls.Config) (*link, tls.ConnectionState, error) {
	l, err := o.open(ctx, address)
	if err != nil {
		return nil, tls.ConnectionState{}, err
	}
	if o.Mode == STARTTLS {
		l.arm()
		_, err := starttls.ReadGreeting(l.conn)
		if err == nil {
			l.arm()
			err = starttls.Upgrade(l.conn, l.ehlo)
		}
		if err != nil {
			l.close()
			return nil, tls.ConnectionState{}, err
		}
	}
	secured, err := l.secure(config)
	if err != nil {
		l.close()
		return nil, tls.ConnectionState{}, err
	}
	return l, secured.ConnectionState(), nil
}

// leave ends a session of tryHandshake as SMTP wants it, whatever comes back.
func (l *link) leave(mode Mode) {
	defer l.close()
	if mode == Implicit {
		if _, err := l.greeting(); err != nil {
			return
		}
	}
	_, _ = l.say("QUIT", maxReply)
}

// maxShown is how much of one text of the server's is kept.
const maxShown = 400

// shown makes a text of the server's fit to show.
func shown(text string) string {
	text = strings.TrimRight(text, "\r\n")
	if len(text) > maxShown {
		return escape.Text(text[:maxShown], "") + "…"
	}
	return escape.Text(text, "")
}

// maxLines is how many lines of a reply are kept.
const maxLines = 100

// replyOf takes a reply apart.
func replyOf(g starttls.Greeting) *Reply {
	r := &Reply{Code: g.Code, Lines: []string{}}
	for line := range strings.Lines(string(g.Text)) {
		if len(r.Lines) == maxLines {
			break
		}
		r.Lines = append(r.Lines, shown(strings.TrimSpace(line[min(4, len(line)):])))
	}
	return r
}

// String is the first line, with the code.
func (r *Reply) String() string {
	first := ""
	if len(r.Lines) > 0 {
		first = r.Lines[0]
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", r.Code, first))
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}
