package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// goodEvery is the time from one good client to the next. They do not wait
	// for each other, so that a slow one hides no other.
	goodEvery = 25 * time.Millisecond
	// patience is what a good client has; most give up much later.
	patience = 10 * time.Second
)

// goodClients come for that long, on both ports in turn, from a few addresses.
// Each has to get its session.
func (p *proxy) goodClients(long time.Duration) (times, error) {
	n := int(long / goodEvery)
	took, failed := make(times, n), make([]error, n)
	var all sync.WaitGroup
	next := time.NewTicker(goodEvery)
	defer next.Stop()
	for i := range n {
		<-next.C
		all.Go(func() { took[i], failed[i] = p.goodClient(i) })
	}
	all.Wait()
	for i, err := range failed {
		if err != nil {
			return nil, fmt.Errorf("a good client after %v: %w", time.Duration(i)*goodEvery, err)
		}
	}
	return took, nil
}

// goodClient returns the time from the connection to the end of the handshake,
// and then sees that there is a mail server.
func (p *proxy) goodClient(i int) (took time.Duration, err error) {
	began := time.Now()
	c, err := connect([]string{p.submissions, p.submission}[i%2], fmt.Sprintf("127.2.0.%d", 1+i%4))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if i%2 == 1 {
		if err := c.plainPhase(); err != nil {
			return 0, err
		}
	}
	secured := tls.Client(c, &tls.Config{ServerName: domain, RootCAs: p.ca.Pool()})
	if err := secured.Handshake(); err != nil {
		return 0, err
	}
	took = time.Since(began)
	s := &conn{Conn: secured}
	if i%2 == 0 {
		if err := s.expect("220 "); err != nil {
			return 0, err
		}
	}
	if err := s.command("EHLO good.example", "250 "); err != nil {
		return 0, err
	}
	return took, s.command("QUIT", "221 ")
}

// conn is a client's connection, of which each reply is read at once.
type conn struct{ net.Conn }

// connect from a source address, with patience.
func connect(address, from string) (*conn, error) {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &conn{c}, c.SetDeadline(time.Now().Add(patience))
}

// plainPhase goes up to the 220 to STARTTLS.
func (c *conn) plainPhase() error {
	if err := c.expect("220 "); err != nil {
		return err
	}
	if err := c.command("EHLO before.example", "250-"); err != nil {
		return err
	}
	return c.command("STARTTLS", "220 ")
}

func (c *conn) command(line, reply string) error {
	if _, err := c.Write([]byte(line + "\r\n")); err != nil {
		return err
	}
	return c.expect(reply)
}

// expect reads what comes, which is one reply: the other side says no more
// before it is spoken to, and in one write.
func (c *conn) expect(reply string) error {
	var buffer [1024]byte
	n, err := c.Read(buffer[:])
	if err != nil {
		return err
	}
	if got := string(buffer[:n]); len(got) < len(reply) || got[:len(reply)] != reply || got[len(got)-1] != '\n' {
		return fmt.Errorf("reply %q, want %q", got, reply)
	}
	return nil
}
