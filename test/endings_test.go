package test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestR61_BackendLeavesMidReply: the client gets what came, then close_notify,
// and no word that the backend did not say.
func TestR61_BackendLeavesMidReply(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	for _, said := range []string{"", "2", "250", "250-first line\r\n", "250-first line\r\n250-second li", "250 no line end"} {
		for _, port := range p.ports() {
			cut := fmt.Sprintf("XCUT %q\r\n", said)
			for _, last := range []string{cut, "NOOP\r\n" + cut + "NOOP\r\n"} {
				c := dial(t, port.address, "")
				tap := c.tapped(0, 0)
				// TLS 1.2 shows on the wire what is an alert.
				if err := c.enter(port, clientOptions{serverName: "a.example", trust: certs, maxVersion: tls.VersionTLS12}.config()); err != nil {
					c.fatal(t, err)
				}
				c.mustSend(t, last)
				want := strings.Repeat("250 2.0.0 Ok\r\n", strings.Count(last[:6], "NOOP")) + said
				if got := c.rest(t); got != want {
					t.Errorf("port %s: behind %q the client got %q, want %q", port.name, last, got, want)
				}
				if records := tap.records(t); records[len(records)-1].kind != alertRecord {
					t.Errorf("port %s: the last record is of kind %d, want an alert", port.name, records[len(records)-1].kind)
				}
				if line := p.waitSession(t, c.local()); line.Outcome != "backend_error" {
					t.Errorf("port %s: %q: the outcome is %s, want backend_error", port.name, said, line.Outcome)
				}
				c.close()
			}
		}
	}
}

// TestR62_HalfClose: the end of the client's stream goes to the backend, and
// what that still says comes back.
func TestR62_HalfClose(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	farewell := "421-the stream ended\r\n421 " + strings.Repeat("x", 100_000) + "\r\n"
	server := startRecorder(t, withHeader, func(r *recorder) { r.farewell = farewell })
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	for _, port := range p.ports() {
		for _, ending := range endings[:2] {
			c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
			c.mustSend(t, "EHLO client.test\r\nNOOP\r\n")
			if err := ending.end(c); err != nil {
				t.Fatal(err)
			}
			if got, want := c.rest(t), recorderEHLO+"250 2.0.0 Ok\r\n"+farewell; got != want {
				t.Errorf("port %s, %s: the client got %.200q, want %.200q", port.name, ending.name, got, want)
			}
			if line := p.waitSession(t, c.local()); line.Outcome != "ok" {
				t.Errorf("port %s, %s: the outcome is %s (%s), want ok", port.name, ending.name, line.Outcome, line.Error)
			}
		}
	}
}

// TestR62_HalfCloseIsBounded: a backend that does not end its stream, too, is
// left after timeouts.half_close.
func TestR62_HalfCloseIsBounded(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	stop := make(chan struct{})
	address := startServer(t, func(conn net.Conn) {
		io.WriteString(conn, "220 deaf.test\r\n")
		io.Copy(io.Discard, conn)
		<-stop
	})
	t.Cleanup(func() { close(stop) })
	p := startProxy(t, setup{certificates: certs, backend: address, timeouts: "half_close: 1s"})
	for _, port := range p.ports() {
		c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
		if err := endings[0].end(c); err != nil {
			t.Fatal(err)
		}
		c.rest(t) // fails where the connection stays open
	}
}

// TestR63_LastReplyArrives at a client that sends a megabyte first and reads
// then: to close a socket with unread bytes would reset the connection.
func TestR63_LastReplyArrives(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	server := startRecorder(t, withHeader)
	up := startProxy(t, setup{certificates: certs, backend: server.address})
	down := startProxy(t, setup{certificates: certs, backend: loopback(t)})
	megabyte := strings.Repeat("NOOP and more of that, to fill a line\r\n", 1_000_000/39)
	message := fmt.Sprintf("EHLO client.test\r\nMAIL FROM:<s@x>\r\nRCPT TO:<r@x>\r\nBDAT %d LAST\r\n%sQUIT\r\n", len(megabyte), megabyte)
	for _, test := range []struct {
		name      string
		proxy     *proxy
		send      string
		lastReply string
	}{
		{"a message and QUIT", up, message, "221 2.0.0 Bye\r\n"},
		{"QUIT first", up, "QUIT\r\n" + megabyte, "221 2.0.0 Bye\r\n"},
		{"HTTP", up, "GET / HTTP/1.1\r\n" + megabyte, "554 5.5.1 This is an SMTP server"},
		{"a backend that is down", down, "EHLO client.test\r\n" + megabyte, "421 4.3.2 "},
	} {
		for _, port := range test.proxy.ports() {
			t.Run(test.name+"/"+port.name, func(t *testing.T) {
				t.Parallel()
				c := handshaken(t, port, clientOptions{serverName: "a.example", trust: certs})
				c.mustSend(t, test.send)
				lines := strings.SplitAfter(c.rest(t), "\r\n")
				if last := lines[max(len(lines)-2, 0)]; !strings.HasPrefix(last, test.lastReply) {
					t.Errorf("the last reply is %q, want %q", last, test.lastReply)
				}
			})
		}
	}
	t.Run("before TLS", func(t *testing.T) {
		t.Parallel()
		for _, send := range []string{megabyte, "GET / HTTP/1.1\r\n" + megabyte, "QUIT\r\n" + megabyte, "STARTTLS\r\n" + megabyte} {
			c := dial(t, up.submission, "")
			c.mustSend(t, send)
			lines := strings.SplitAfter(c.rest(t), "\r\n")
			if last := lines[max(len(lines)-2, 0)]; !strings.HasPrefix(last, "421 4.7.0 ") && !strings.HasPrefix(last, "554 ") &&
				!strings.HasPrefix(last, "221 ") && !strings.HasPrefix(last, "503 ") {
				t.Errorf("behind %.10q the last reply is %q", send, last)
			}
		}
	})
}

// TestR64_StalledPeersCostLittle: what one side does not take, the other
// cannot send; the proxy holds no more than its buffers.
func TestR64_StalledPeersCostLittle(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	stop, flooded := make(chan struct{}), make(chan int64, 2)
	address := startServer(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		io.WriteString(conn, "220 stalled.test\r\n")
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			switch line[:min(5, len(line))] {
			case "STALL":
				<-stop // reads no more
				return
			case "FLOOD":
				flooded <- flood(conn)
				return
			case "EHLO ":
				io.WriteString(conn, recorderEHLO)
			}
		}
	})
	t.Cleanup(func() { close(stop) }) // before the server's own
	p := startProxy(t, setup{certificates: certs, backend: address, clientInfo: "proxy-v1", drain: "1s"})
	before := p.resident(t)
	for _, port := range p.ports() {
		c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
		c.must(t, 250, "EHLO client.test")
		c.mustSend(t, "STALL\r\nBDAT 1000000000 LAST\r\n")
		if n := flood(c.conn); n >= 1e9 {
			t.Errorf("port %s: the proxy took a gigabyte that nobody read", port.name)
		}
		c = open(t, port, clientOptions{serverName: "a.example", trust: certs})
		c.mustSend(t, "FLOOD\r\n")
		if n := <-flooded; n >= 1e9 {
			t.Errorf("port %s: the proxy took a gigabyte for a client that read nothing", port.name)
		}
	}
	// With the race detector memory costs several times as much.
	if grown := p.resident(t) - before; grown > 100<<20 {
		t.Errorf("the proxy grew by %d MB", grown>>20)
	}
}

// flood writes up to a gigabyte until nothing goes any more for a second.
func flood(conn net.Conn) (n int64) {
	block := make([]byte, 1<<20)
	for n < 1e9 {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		m, err := conn.Write(block)
		n += int64(m)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return n
			}
			break
		}
	}
	return n
}

// resident is the memory that the process has.
func (p *process) resident(t testing.TB) (bytes int64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(lineWith(string(status), "VmRSS:"), "VmRSS: %d kB", &bytes); err != nil {
		t.Fatal(err)
	}
	return bytes << 10
}
