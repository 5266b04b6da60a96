package test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// client is a raw SMTP client: it sends the bytes that it is given, and reads
// replies. Its methods that return errors may be used by any goroutine.
type client struct {
	raw        *net.TCPConn
	wire       net.Conn // raw, or a tap on it; TLS goes over this
	conn       net.Conn // wire, or TLS over it
	reader     *bufio.Reader
	received   []byte // every byte read since TLS was up
	transcript []string
}

// clientOptions say how to connect.
type clientOptions struct {
	local      string // source address; the system's choice
	serverName string // SNI
	trust      *certificates
	maxVersion uint16
}

func (o clientOptions) config() *tls.Config {
	return &tls.Config{ServerName: o.serverName, RootCAs: o.trust.ca.Pool(), MaxVersion: o.maxVersion}
}

// dial connects in plain text. The connection ends with the test.
func dial(t testing.TB, address, local string) *client {
	t.Helper()
	c, err := tryDial(address, local)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

func tryDial(address, local string) (*client, error) {
	dialer := net.Dialer{Timeout: patience}
	if local != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
	}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := &client{raw: conn.(*net.TCPConn), wire: conn}
	c.use(conn)
	return c, c.extend()
}

// extend gives the connection its time anew.
func (c *client) extend() error { return c.raw.SetDeadline(time.Now().Add(3 * patience)) }

func (c *client) use(conn net.Conn) {
	c.conn = conn
	c.received = nil
	c.reader = bufio.NewReader(io.TeeReader(conn, (*appender)(&c.received)))
}

type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

func (c *client) close() { c.raw.Close() }

// local is the address that the client connects from.
func (c *client) local() string { return c.raw.LocalAddr().String() }

// startTLS does the handshake. Nothing may have come behind the reply that
// was read last.
func (c *client) startTLS(config *tls.Config) error {
	if n := c.reader.Buffered(); n > 0 {
		text, _ := c.reader.Peek(n)
		return fmt.Errorf("plain text before the handshake: %q", text)
	}
	conn := tls.Client(c.wire, config)
	if err := conn.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.use(conn)
	return nil
}

// open connects to one of the proxy's ports and does what comes before TLS
// and the handshake. On 465 it reads the greeting, too, so that on both ports
// the client's EHLO is next.
func open(t testing.TB, to port, options clientOptions) *client {
	t.Helper()
	c := dial(t, to.address, options.local)
	if err := c.enter(to, options.config()); err != nil {
		c.fatal(t, err)
	}
	return c
}

func (c *client) enter(to port, config *tls.Config) error {
	if to.name == plainPort {
		_, err := c.expect(220)
		return err
	}
	if err := c.plainPhase(to); err != nil {
		return err
	}
	if err := c.startTLS(config); err != nil {
		return err
	}
	if to.name == "465" {
		if _, err := c.expect(220); err != nil {
			return err
		}
	}
	c.received = nil
	return nil
}

// plainPhase goes up to where the port wants a ClientHello.
func (c *client) plainPhase(to port) error {
	if to.name == "465" {
		return nil
	}
	if _, err := c.expect(220); err != nil {
		return err
	}
	if _, err := c.exchange("EHLO before.tls", 250); err != nil {
		return err
	}
	_, err := c.exchange("STARTTLS", 220)
	return err
}

// handshaken goes up to the end of the handshake, and reads no greeting.
func handshaken(t testing.TB, to port, options clientOptions) *client {
	t.Helper()
	c := atHandshake(t, to, options.local)
	if err := c.startTLS(options.config()); err != nil {
		c.fatal(t, err)
	}
	return c
}

// atHandshake connects and goes up to where the port wants a ClientHello.
func atHandshake(t testing.TB, to port, local string) *client {
	t.Helper()
	c := dial(t, to.address, local)
	if err := c.plainPhase(to); err != nil {
		c.fatal(t, err)
	}
	return c
}

// must sends a line and wants a reply with that code. It returns the reply.
func (c *client) must(t testing.TB, code int, line string) string {
	t.Helper()
	reply, err := c.exchange(line, code)
	if err != nil {
		c.fatal(t, err)
	}
	return reply
}

// mustGreet wants the greeting.
func (c *client) mustGreet(t testing.TB) {
	t.Helper()
	if _, err := c.expect(220); err != nil {
		c.fatal(t, err)
	}
}

func (c *client) fatal(t testing.TB, err error) {
	t.Helper()
	t.Fatalf("%v\n%s", err, indent(strings.Join(c.transcript, "\n")))
}

func (c *client) exchange(line string, code int) (string, error) {
	if err := c.send([]byte(line + "\r\n")); err != nil {
		return "", err
	}
	return c.expect(code)
}

// send writes the bytes as they are.
func (c *client) send(data []byte) error {
	shown := data[:min(len(data), 200)]
	c.transcript = append(c.transcript, fmt.Sprintf("C: %q", shown))
	_, err := c.conn.Write(data)
	return err
}

// expect reads one reply and wants that code.
func (c *client) expect(code int) (string, error) {
	var reply strings.Builder
	for {
		line, err := c.reader.ReadString('\n')
		reply.WriteString(line)
		if line != "" {
			c.transcript = append(c.transcript, fmt.Sprintf("S: %q", line))
		}
		if err != nil {
			return reply.String(), fmt.Errorf("reading a reply: %w", err)
		}
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	got, err := strconv.Atoi(reply.String()[:min(3, reply.Len())])
	if err != nil || got != code {
		return reply.String(), fmt.Errorf("reply %q, want code %d", reply.String(), code)
	}
	return reply.String(), nil
}

// mustSend is send in the test's goroutine.
func (c *client) mustSend(t testing.TB, data string) {
	t.Helper()
	if err := c.send([]byte(data)); err != nil {
		c.fatal(t, err)
	}
}

// rest reads until the connection ends. A reset is an end, too.
func (c *client) rest(t testing.TB) string {
	t.Helper()
	data, err := io.ReadAll(c.reader)
	if len(data) > 0 {
		c.transcript = append(c.transcript, fmt.Sprintf("S: %q", data[:min(len(data), 200)]))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.fatal(t, fmt.Errorf("the connection stays open: %w", err))
	}
	return string(data)
}

// mustEnd sends a line, wants a reply with that code, and then the end.
func (c *client) mustEnd(t testing.TB, code int, line string) string {
	t.Helper()
	reply := c.must(t, code, line)
	if more := c.rest(t); more != "" {
		c.fatal(t, fmt.Errorf("behind the last reply came %q", more))
	}
	return reply
}

// mailTo begins a message, up to the recipient.
func (c *client) mailTo(t testing.TB, helo, recipient string) {
	t.Helper()
	c.must(t, 250, "EHLO "+helo)
	c.must(t, 250, "MAIL FROM:<sender@client.test>")
	c.must(t, 250, "RCPT TO:<"+recipient+">")
}
