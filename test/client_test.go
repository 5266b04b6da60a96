package test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// client is a raw SMTP client: it sends the bytes that it is given, and reads
// replies. Its methods that return errors may be used by any goroutine.
type client struct {
	raw        *net.TCPConn
	conn       net.Conn // raw, or TLS over it
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
	if err := conn.SetDeadline(time.Now().Add(3 * patience)); err != nil {
		return nil, err
	}
	c := &client{raw: conn.(*net.TCPConn)}
	c.use(conn)
	return c, nil
}

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

// startTLS does the handshake.
func (c *client) startTLS(config *tls.Config) error {
	conn := tls.Client(c.raw, config)
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
	if to.name != "465" {
		if _, err := c.expect(220); err != nil {
			return err
		}
		for _, step := range []struct {
			line string
			code int
		}{{"EHLO before.tls", 250}, {"STARTTLS", 220}} {
			if _, err := c.exchange(step.line, step.code); err != nil {
				return err
			}
		}
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

// must sends a line and wants a reply with that code. It returns the reply.
func (c *client) must(t testing.TB, code int, line string) string {
	t.Helper()
	reply, err := c.exchange(line, code)
	if err != nil {
		c.fatal(t, err)
	}
	return reply
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

// mailTo begins a message, up to the recipient.
func (c *client) mailTo(t testing.TB, helo, recipient string) {
	t.Helper()
	c.must(t, 250, "EHLO "+helo)
	c.must(t, 250, "MAIL FROM:<sender@client.test>")
	c.must(t, 250, "RCPT TO:<"+recipient+">")
}
