package test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
)

// pieces are ways to cut a stream: the size of each piece, called for every one.
var pieces = map[string]func() int{
	"1 byte":    func() int { return 1 },
	"3 bytes":   func() int { return 3 },
	"509 bytes": func() int { return 509 },
	"16384":     func() int { return 16384 },
	"any":       func() int { return 1 + rand.N(3000) },
	"at once":   func() int { return 1 << 30 },
}

// limit is how much of data is worth sending in pieces of that size.
func limit(data []byte, size func() int) []byte {
	return data[:min(len(data), max(2000, 400*size()))]
}

func writePieces(w io.Writer, data []byte, size func() int) error {
	for len(data) > 0 {
		n := min(size(), len(data))
		if _, err := w.Write(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func randomBytes(n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	return data
}

// TestR56_RandomBytes: what is no SMTP at all passes both ways, every byte of
// it, however it is cut, and both at once.
func TestR56_RandomBytes(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	for name, size := range pieces {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			toBackend, toClient := limit(randomBytes(300_000), size), limit(randomBytes(300_000), size)
			copy(toBackend[1000:], "x\n") // a command that is cut does not pass; this makes it none
			got := make(chan []byte, 8)   // what the backend got in each session
			address := startServer(t, func(conn net.Conn) {
				header := make([]byte, 64<<10)
				n, err := conn.Read(header)
				if err != nil || header[12] == 0x20 { // the proxy's own look at the backend
					return
				}
				if n != headerLength(header[:n]) {
					t.Errorf("%d bytes came with the header", n-headerLength(header[:n]))
				}
				if _, err := io.WriteString(conn, "220 pipe.test\r\n"); err != nil {
					t.Error(err)
				}
				// Both directions begin when the client has spoken, so that
				// the greeting stands alone.
				in := bufio.NewReader(conn)
				first, err := in.Peek(1)
				if err != nil || len(first) != 1 {
					t.Errorf("the client said nothing: %v", err)
					return
				}
				var writing sync.WaitGroup
				writing.Go(func() {
					if err := writePieces(conn, toClient, size); err != nil {
						t.Errorf("writing to the proxy: %v", err)
					}
				})
				data, err := io.ReadAll(in)
				if err != nil {
					t.Errorf("reading from the proxy: %v", err)
				}
				writing.Wait()
				got <- data
			})
			p := startProxy(t, setup{certificates: certs, backend: address})
			for _, port := range p.ports() {
				c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
				var writing sync.WaitGroup
				writing.Go(func() {
					err := writePieces(c.conn, toBackend, size)
					if err == nil {
						err = c.conn.(interface{ CloseWrite() error }).CloseWrite()
					}
					if err != nil {
						t.Errorf("writing: %v", err)
					}
				})
				requireSame(t, port.name+", to the client", []byte(c.rest(t)), toClient)
				writing.Wait()
				requireSame(t, port.name+", to the backend", <-got, toBackend)
			}
		})
	}
}

func requireSame(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		at := differsAt(got, want)
		t.Errorf("%s: %d bytes came of %d, and differ at byte %d:\ngot  %q\nwant %q", what, len(got), len(want), at,
			got[at:min(at+60, len(got))], want[at:min(at+60, len(want))])
	}
}

// TestR56_MessagesAndReplies: messages with every byte value, by DATA and by
// BDAT, and a reply with NUL, bare CR and bare LF, in one pipelined session.
func TestR56_MessagesAndReplies(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	blob := "250-\x00 nul \r cr \n250-bare lf\n250-\xff\xfe\x80 8 bit\r\n250-\r\r\n250 the end \x00\r\n"
	server := startRecorder(t, withHeader, func(r *recorder) { r.blob = []byte(blob) })
	p := startProxy(t, setup{certificates: certs, backend: server.address, mx: loopback(t)})
	for name, size := range pieces {
		for _, port := range p.ports() {
			t.Run(port.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				marker := newMarker()
				binary := limit(randomBytes(100_000), size)
				// Where the random text hides its end from the filter, the pipe waits for
				// more behind what a refused command may begin with.
				binary[len(binary)-1] = '.'
				text := dotStuffed(append(bytes.ReplaceAll(binary, []byte("\r\n"), []byte("\r \n")), "\r\n.\r\n..\r\n"...))
				chunked := fmt.Sprintf("MAIL FROM:<s@x> BODY=BINARYMIME\r\nRCPT TO:<r@x>\r\nBDAT %d\r\n%sBDAT 0\r\nBDAT %d LAST\r\n%s", len(binary), binary, len(binary), binary)
				c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
				var sent bytes.Buffer
				say := func(data string, codes ...int) {
					t.Helper()
					sent.WriteString(data)
					if err := writePieces(c.conn, []byte(data), size); err != nil {
						t.Fatal(err)
					}
					for _, code := range codes {
						if _, err := c.expect(code); err != nil {
							c.fatal(t, err)
						}
					}
				}
				say("EHLO "+marker+"\r\n", 250)
				say("MAIL FROM:<s@x> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<\xc3\xbc@x>\r\nDATA\r\n", 250, 250, 354)
				say(string(text), 250)
				say(chunked, 250, 250, 250, 250, 250)
				say("XBLOB\r\nNOOP\r\nQUIT\r\n")
				if got, want := c.rest(t), blob+"250 2.0.0 Ok\r\n221 2.0.0 Bye\r\n"; got != want {
					t.Errorf("the client got %q, want %q", got, want)
				}
				requireSame(t, "to the backend", server.waitSession(t, marker).bytes(), sent.Bytes())
			})
		}
	}
}

// smuggled are what some servers take for the end of a message, and others not.
var smuggled = []string{
	"\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r\n.\n", "\r.\r\n", "\n.\r", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\n. \r\n", "\r\r\n.\r\r\n", "\r\n.\r\r\n", "\r\n\r.\r\n",
}

// TestR57_SmugglingIsNotOurs: the proxy neither makes nor takes away nor acts
// on any of them; the backend gets what it would get directly. Such messages are
// not counted: what ends a message for some servers and not for others is not
// followed any further.
func TestR57_SmugglingIsNotOurs(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	proxied, direct := startRecorder(t, withHeader), startRecorder(t, withoutHeader)
	p := startProxy(t, setup{certificates: certs, backend: proxied.address, mx: loopback(t)})
	for i, end := range smuggled {
		for _, cut := range []string{"at once", "1 byte"} {
			for _, port := range p.ports() {
				name := fmt.Sprintf("%d of %d, %q, %s, port %s", i+1, len(smuggled), end, cut, port.name)
				marker := newMarker()
				body := "Subject: x\r\n\r\ntext" + end + "MAIL FROM:<smuggled@x>\r\nRCPT TO:<r@x>\r\nDATA\r\nEHLO y\r\nsmuggled" + end + "\r\n.\r\n"
				through := open(t, port, clientOptions{serverName: "a.example", trust: certs})
				beside := dial(t, direct.address, "")
				if _, err := beside.expect(220); err != nil {
					t.Fatal(err)
				}
				for _, c := range []*client{through, beside} {
					c.mailTo(t, marker, "r@x")
					c.must(t, 354, "DATA")
					if err := writePieces(c.conn, []byte(body), pieces[cut]); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if _, err := c.expect(250); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					c.mustEnd(t, 221, "QUIT")
				}
				want := direct.waitSession(t, marker).bytes()
				requireSame(t, name, proxied.waitSession(t, marker).bytes(), want)
				if strings.Count(string(want), body) != 1 {
					t.Errorf("%s: the body did not arrive directly, either", name)
				}
			}
		}
	}
}

// TestR14_LostSessionForgesNothing: a client that has the proxy lose its way,
// with an end that some servers take for one, can still not tell the backend
// another address. Its session ends before the line; no byte is altered.
func TestR14_LostSessionForgesNothing(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: certs, backend: server.address, mx: loopback(t)})
	for _, port := range p.ports() {
		for _, command := range []string{"XCLIENT ADDR=192.0.2.66", "xforward ADDR=192.0.2.66"} {
			marker := newMarker()
			c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
			c.mailTo(t, marker, "r@x")
			c.must(t, 354, "DATA")
			if err := c.send([]byte("text\n.\n" + command + "\r\n.\r\n")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.expect(421); err != nil {
				c.fatal(t, err)
			}
			got := string(server.waitSession(t, marker).bytes())
			if strings.Contains(got, "192.0.2.66") || !strings.HasSuffix(got, "text\n.\n") {
				t.Errorf("port %s, %s: the backend got %q", port.name, command, got)
			}
		}
	}
}
