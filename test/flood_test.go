package test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"
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

// silentMemory bounds what a client that says nothing costs, in bytes. It is
// about 12 kB.
const silentMemory = 32 << 10

// served is a good client's session, from its connection to the 250 to its
// message, at a port and from an address by its number. It may take as long as
// clients wait; bench/floods measures how long it does.
func served(t *testing.T, p *proxy, i int) {
	t.Helper()
	local := fmt.Sprintf("127.2.0.%d", 1+i%20) // one may not come too often
	c := open(t, p.ports()[i%2], clientOptions{local: local, serverName: "b.example", trust: p.certificates})
	defer c.close()
	c.must(t, 250, "EHLO client.test")
	sendMessage(t, c)
}

// servedWhile has a good client come again and again until the flood is over,
// and once after it, to one port after the other. It returns how many came.
func servedWhile(t *testing.T, p *proxy, flood func()) (rounds int) {
	t.Helper()
	over := make(chan struct{})
	go func() {
		defer close(over)
		flood()
	}()
	defer func() { <-over }() // also where a client fails
	for done := false; !done; rounds++ {
		select {
		case <-over:
			done = true
		default:
		}
		served(t, p, rounds)
	}
	return rounds
}

// restAfterUse serves each port once, which makes what is made once, and takes
// what the proxy holds then.
func restAfterUse(t *testing.T, p *proxy) (resting footprint, bytes float64) {
	t.Helper()
	p.showMemory(t)
	for i := range p.ports() {
		served(t, p, i)
	}
	p.waitNoConnections(t)
	bytes = p.inUse(t)
	return p.footprint(t), bytes
}

// requireRest wants that a flood that has passed has left nothing behind.
func requireRest(t *testing.T, p *proxy, resting footprint, bytes float64) {
	t.Helper()
	p.waitNoConnections(t)
	p.waitMetric(t, "smtp_tlsproxy_handshakes_waiting", "0")
	p.requireFootprint(t, resting)
	eventually(t, fmt.Sprintf("%.0f bytes of memory are in use again", bytes), func() bool { return p.inUse(t) <= bytes+memorySlack })
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
	resting, bytes := restAfterUse(t, p)
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
	if each := (p.inUse(t) - bytes) / silent; each > silentMemory {
		t.Errorf("a silent client costs %.0f bytes", each)
	}
	servedWhile(t, p, func() { sendGarbage(t, p, garbage) })
	before.must(t, 250, "NOOP")
	for listener, n := range map[string]int{"submissions": silent/2 + 1, "submission": silent / 2} {
		p.waitMetric(t, fmt.Sprintf("smtp_tlsproxy_connections_open{listener=%q}", listener), strconv.Itoa(n))
	}
	sendMessage(t, before)
	before.close()
	for _, c := range flood {
		c.close()
	}
	requireRest(t, p, resting, bytes)
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

// TestR73_R77_DripsStarveNobody: a client is served while 300 others send their
// ClientHello a byte at a time, whom the deadline of the handshake cuts although
// they never stop. With one turn to compute, none of them may hold it.
func TestR73_R77_DripsStarveNobody(t *testing.T) {
	t.Parallel()
	const drips = 300
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address,
		tls: "handshake_timeout: 3s", limits: "concurrent_handshakes: 1, " + manyHandshakes})
	resting, bytes := restAfterUse(t, p)
	hello := helloFor(t, "a.example")
	clients := servedWhile(t, p, func() {
		var all sync.WaitGroup
		defer all.Wait()
		for i := range drips {
			all.Go(func() { drip(t, p.ports()[i%2], floodAddress(i), hello) })
		}
	})
	for _, listener := range []string{"submissions", "submission"} {
		p.waitMetric(t, handshakeFailures(listener, "timeout"), strconv.Itoa(drips/2))
	}
	if clients < 2 {
		t.Errorf("%d clients came", clients)
	}
	requireRest(t, p, resting, bytes)
}

// drip sends a byte of the ClientHello, and after a while another, until it is
// cut. All of them take longer than patience.
func drip(t *testing.T, port port, local string, hello []byte) {
	c, err := tryDial(port.address, local)
	if err == nil {
		err = c.plainPhase(port)
	}
	if err != nil {
		t.Error(err)
		return
	}
	defer c.close()
	for i := range hello {
		if c.send(hello[i:i+1]) != nil {
			return // it was cut
		}
		time.Sleep(2 * patience / time.Duration(len(hello)))
	}
	t.Error("a ClientHello of that took so long was let pass")
}

// TestR80_ResetStorm: clients that reset their connections, wherever they are,
// leave nothing behind, and do not keep others out.
func TestR80_ResetStorm(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	options := clientOptions{serverName: "a.example", trust: certs}
	resting, bytes := restAfterUse(t, p)
	hello := helloFor(t, "a.example")
	storm := func(i int) {
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
	}
	if clients := servedWhile(t, p, func() { crowd(600, storm) }); clients < 2 {
		t.Errorf("%d clients came", clients)
	}
	requireRest(t, p, resting, bytes)
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
