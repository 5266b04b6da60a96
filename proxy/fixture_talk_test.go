package proxy_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is the deadline of every single read and write of the tests. A test
// never passes because it ran out.
const patience = 20 * time.Second

// talk is one end of an SMTP connection, the client's or the backend's. What
// goes wrong ends its test, with all that was said.
type talk struct {
	conn     net.Conn
	r        *bufio.Reader
	patience time.Duration
	fail     func(format string, args ...any) // does not return

	mu   sync.Mutex
	said []string
}

func newTalk(conn net.Conn) *talk {
	return &talk{conn: conn, r: bufio.NewReader(conn), patience: patience}
}

func (k *talk) note(who, text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	k.said = append(k.said, who+": "+text)
}

func (k *talk) transcript() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.Join(k.said, "\n")
}

func (k *talk) fatalf(format string, args ...any) {
	k.fail("%s\n%s", fmt.Sprintf(format, args...), k.transcript())
}

// send writes the lines, each with CRLF, in one write.
func (k *talk) send(lines ...string) {
	k.raw(strings.Join(lines, "\r\n") + "\r\n")
}

func (k *talk) raw(text string) {
	k.note("send", text)
	k.conn.SetDeadline(time.Now().Add(k.patience))
	if _, err := io.WriteString(k.conn, text); err != nil {
		k.fatalf("writing: %v", err)
	}
}

// line reads one line; "" is the end of the stream.
func (k *talk) line() string {
	k.conn.SetDeadline(time.Now().Add(k.patience))
	line, err := k.r.ReadString('\n')
	if line != "" || err == nil {
		k.note("recv", line)
	}
	if err != nil {
		k.note("recv", err.Error())
		if !errors.Is(err, io.EOF) || line != "" {
			k.fatalf("reading: %v", err)
		}
	}
	return line
}

// reply reads a whole reply.
func (k *talk) reply() string {
	var all strings.Builder
	for {
		line := k.line()
		all.WriteString(line)
		if len(line) < 4 || line[3] != '-' {
			return all.String()
		}
	}
}

// expect reads a reply that begins so, or a command.
func (k *talk) expect(prefix string) string {
	reply := k.reply()
	if !strings.HasPrefix(reply, prefix) {
		k.fatalf("got %q, want %q", reply, prefix)
	}
	return reply
}

// do sends a command and expects its reply.
func (k *talk) do(command, prefix string) string {
	k.send(command)
	return k.expect(prefix)
}

// end expects the end of the stream.
func (k *talk) end() {
	if line := k.line(); line != "" {
		k.fatalf("got %q, want the end of the stream", line)
	}
}

// gone expects the end of the connection, however it comes.
func (k *talk) gone() {
	k.conn.SetDeadline(time.Now().Add(k.patience))
	rest, err := io.ReadAll(k.r)
	if len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		k.fatalf("got %q and %v, want the end of the connection", rest, err)
	}
}

// halfClose ends this side's stream: under TLS with close_notify.
func (k *talk) halfClose() {
	k.note("send", "end of stream")
	if err := k.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		k.fatalf("half-close: %v", err)
	}
}

// client is a mail client.
type client struct {
	*talk
	t testing.TB
}

// dialClient connects to a listener, without TLS as yet.
func dialClient(t testing.TB, address net.Addr) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address.String(), patience)
	must(t, err)
	return newClient(t, conn)
}

func newClient(t testing.TB, conn net.Conn) *client {
	c := &client{newTalk(conn), t}
	c.fail = func(format string, args ...any) { t.Helper(); t.Fatalf("client: "+format, args...) }
	t.Cleanup(func() { conn.Close() })
	return c
}

// today lies in the life of the certificates; in a bubble it is the year 2000.
var today = time.Now()

// trusting is the configuration of a client that verifies the name.
func trusting(name string) *tls.Config {
	return &tls.Config{
		ServerName: name, RootCAs: certificates().ca.Pool(),
		Time: func() time.Time { return today },
	}
}

// handshake puts TLS on the connection.
func (c *client) handshake(config *tls.Config) {
	c.t.Helper()
	if err := c.tryHandshake(config); err != nil {
		c.fatalf("handshake: %v", err)
	}
}

func (c *client) tryHandshake(config *tls.Config) error {
	if c.r.Buffered() > 0 {
		c.fatalf("bytes before the handshake")
	}
	conn := tls.Client(c.conn, config)
	conn.SetDeadline(time.Now().Add(c.patience))
	err := conn.Handshake()
	c.conn, c.r = conn, bufio.NewReader(conn)
	return err
}

// startTLS goes through the plain phase and the handshake.
func (c *client) startTLS(config *tls.Config) {
	c.t.Helper()
	c.plainPhase()
	c.handshake(config)
}

// plainPhase goes up to the 220 that answers STARTTLS.
func (c *client) plainPhase() {
	c.t.Helper()
	c.expect("220 ")
	c.do("EHLO client.example", "250-")
	c.do("STARTTLS", "220 ")
}

func (c *client) state() tls.ConnectionState { return c.conn.(*tls.Conn).ConnectionState() }
