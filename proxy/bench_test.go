package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// benchBackend answers as little as it can, for the proxy to be what counts.
func benchBackend(b testing.TB, buffer int) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveBench(conn, buffer)
		}
	}()
	return l.Addr().String()
}

func serveBench(conn net.Conn, buffer int) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, buffer)
	if _, err := proxyproto.Read(r); err != nil {
		return
	}
	reply := "220 ready\r\n"
	for {
		if _, err := io.WriteString(conn, reply); err != nil || reply == "221 bye\r\n" {
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch string(line) {
		case "QUIT\r\n":
			reply = "221 bye\r\n"
		case "DATA\r\n":
			if _, err := io.WriteString(conn, "354 go ahead\r\n"); err != nil {
				return
			}
			for string(line) != ".\r\n" {
				if line, err = r.ReadSlice('\n'); err != nil {
					return
				}
			}
			reply = "250 queued\r\n"
		default:
			reply = "250 ok\r\n"
		}
	}
}

// quietServer serves without a log and counts as ever. The buffer is that of
// its backend.
func quietServer(b testing.TB, mode proxy.Mode, buffer int) net.Addr {
	srv, err := proxy.Listen(proxy.Config{
		Listeners: []proxy.Listener{listenerTo(b, mode, benchBackend(b, buffer))},
		Limits:    proxy.Limits{HandshakesPerSecondPerClient: 1_000_000}, // all come from one address
	})
	must(b, err)
	go srv.Serve()
	b.Cleanup(func() { must(b, srv.Close()) })
	return srv.Addr(mode.String())
}

// BenchmarkSession is a session that serves nothing: connect, TLS with an
// ECDSA certificate, EHLO, QUIT. The client's and the backend's work counts
// too.
func BenchmarkSession(b *testing.B) {
	for _, mode := range []proxy.Mode{proxy.ModeImplicitTLS, proxy.ModeSTARTTLS} {
		b.Run(mode.String(), func(b *testing.B) {
			address := quietServer(b, mode, 4<<10)
			b.ReportAllocs()
			for b.Loop() {
				c := dialClient(b, address)
				c.secure(mode)
				if mode == proxy.ModeImplicitTLS {
					c.expect("220 ")
				}
				c.do("EHLO client.example", "250 ")
				c.do("QUIT", "221 ")
				c.end()
				c.conn.Close()
			}
		})
	}
}

// BenchmarkRelay is a message of 50 MB.
func BenchmarkRelay(b *testing.B) {
	const size = 50 << 20
	line := strings.Repeat("x", 76) + "\r\n"
	chunk := []byte(strings.Repeat(line, 32<<10/len(line)))
	address := quietServer(b, proxy.ModeImplicitTLS, 64<<10)
	c := dialClient(b, address)
	c.secure(proxy.ModeImplicitTLS)
	c.expect("220 ")
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		c.do("DATA", "354 ")
		for sent := 0; sent < size; sent += len(chunk) {
			if _, err := c.conn.(*tls.Conn).Write(chunk); err != nil {
				b.Fatal(err)
			}
		}
		c.do(".", "250 queued")
	}
	b.StopTimer()
	c.do("QUIT", "221 ")
	c.end()
}
