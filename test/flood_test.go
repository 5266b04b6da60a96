package test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// floodAddress is the source address of a client of a flood, one of sixty.
func floodAddress(i int) string { return fmt.Sprintf("127.1.0.%d", 1+i%60) }

// crowd runs do for each of so many clients, some at a time.
func crowd(clients int, do func(i int)) {
	var workers sync.WaitGroup
	next := make(chan int)
	for range 16 {
		workers.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range clients {
		next <- i
	}
	close(next)
	workers.Wait()
}

// TestR77_FloodStarvesNobody: with the limits as they are by default, a client
// is served while 2,000 others connected, from sixty addresses, and say
// nothing, and 1,000 send what is no handshake. It runs alone, because it needs
// the machine.
func TestR77_FloodStarvesNobody(t *testing.T) {
	const silent, garbage = 2000, 1000
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, limits: "concurrent_handshakes: 256"})
	before := open(t, p.ports()[0], clientOptions{serverName: "a.example", trust: certs})
	before.must(t, 250, "EHLO client.test")

	var mu sync.Mutex
	var flood []*client
	crowd(silent, func(i int) {
		port := p.ports()[i%2]
		c, err := tryDial(port.address, floodAddress(i))
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		flood = append(flood, c)
		mu.Unlock()
		if i%4 == 1 { // on 587, and silent when it should shake hands
			if err := c.plainPhase(port); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		}
	})
	for listener, n := range map[string]int{"submissions": silent/2 + 1, "submission": silent / 2} {
		p.waitMetric(t, fmt.Sprintf("smtp_tlsproxy_connections_open{listener=%q}", listener), strconv.Itoa(n))
	}
	noise := make(chan struct{})
	go func() {
		defer close(noise)
		sendGarbage(t, p, garbage)
	}()
	for round, done := 0, false; !done; round++ { // while the noise lasts, and once after it
		select {
		case <-noise:
			done = true
		default:
		}
		port := p.ports()[round%2]
		c := open(t, port, clientOptions{serverName: "b.example", trust: certs})
		c.must(t, 250, "EHLO client.test")
		sendMessage(t, c)
		c.close()
		before.must(t, 250, "NOOP")
	}
	for listener, n := range map[string]int{"submissions": silent/2 + 1, "submission": silent / 2} {
		p.waitMetric(t, fmt.Sprintf("smtp_tlsproxy_connections_open{listener=%q}", listener), strconv.Itoa(n))
	}
	sendMessage(t, before)
	before.close()
	for _, c := range flood {
		c.close()
	}
	p.waitNoConnections(t)
	p.waitMetric(t, "smtp_tlsproxy_handshakes_waiting", "0")
	p.waitMetric(t, rejected("submissions", "per_client"), "0")
}

// sendGarbage has so many clients send something else than their ClientHello,
// which ends it, or the start of one, and leave.
func sendGarbage(t *testing.T, p *proxy, clients int) {
	hello := helloFor(t, "a.example")
	crowd(clients, func(i int) {
		port := p.ports()[i%2]
		c, err := tryDial(port.address, floodAddress(i))
		if err != nil {
			t.Error(err)
			return
		}
		defer c.close()
		if err := c.plainPhase(port); err != nil {
			t.Errorf("client %d of garbage: %v", i, err)
			return
		}
		said := append([]byte(nil), hello[:rand.N(len(hello))]...)
		if i%3 > 0 { // random bytes, or such in a record
			said = make([]byte, 1+rand.N(500))
			for j := range said {
				said[j] = byte(rand.N(256))
			}
			if i%3 == 1 && len(said) > 5 {
				copy(said, []byte{handshakeRecord, 3, 1, byte(len(said) >> 8), byte(len(said) - 5)})
			}
		}
		_ = c.send(said) // may be cut
	})
}

// TestR80_ResetStorm: clients that reset their connections, wherever they are,
// leave nothing behind.
func TestR80_ResetStorm(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	options := clientOptions{serverName: "a.example", trust: certs}
	for _, port := range p.ports() { // what is made once
		c := open(t, port, options)
		c.must(t, 250, "EHLO client.test")
		c.mustEnd(t, 221, "QUIT")
		c.close()
	}
	p.waitNoConnections(t)
	resting := p.footprint(t)
	hello := helloFor(t, "a.example")
	crowd(600, func(i int) {
		port := p.ports()[i%2]
		c, err := tryDial(port.address, floodAddress(i))
		if err != nil {
			t.Error(err)
			return
		}
		defer reset(c.raw)
		stages := []func() error{
			func() error { return nil },
			func() error { return c.plainPhase(port) },
			func() error { return c.send(hello[:rand.N(len(hello))]) },
			func() error { return c.startTLS(options.config()) },
			func() error { return c.send([]byte("EHLO client.test\r\nMAIL FROM:<s@x>\r\n")) },
			func() error { return c.send([]byte("RCPT TO:<r@x>\r\nDATA\r\n")) },
		}
		for n, stage := range stages[:1+i/2%len(stages)] {
			if n == 2 && i/2%len(stages) != 2 {
				continue // half a ClientHello is for those that end with it
			}
			if err := stage(); err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
		}
	})
	p.waitNoConnections(t)
	p.requireFootprint(t, resting)
	c := open(t, p.ports()[1], options)
	c.must(t, 250, "EHLO client.test")
	sendMessage(t, c)
}

// reset closes a connection so that the other side gets a reset.
func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// number is the value of a sample.
func (p *proxy) number(t testing.TB, sample string) int {
	t.Helper()
	text := p.metric(t, sample)
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s is %q", sample, text)
	}
	return n
}
