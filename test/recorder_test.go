package test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a backend that keeps every byte it gets and speaks as much SMTP
// as it takes to get them. Only CRLF ends its lines and only CRLF.CRLF ends
// its DATA.
type recorder struct {
	address  string
	greeting string // "" for none at all
	ehlo     string // reply to EHLO
	blob     []byte // reply to XBLOB, as it is
	farewell string // what it says when the client has ended its stream

	mu       sync.Mutex
	sessions []*recording
}

// recording is one connection as the backend saw it.
type recording struct {
	mu        sync.Mutex
	firstRead int    // bytes of the first read
	header    []byte // PROXY header
	received  []byte // every byte after it
	ended     bool
}

// startRecorder listens until the end of the test. With a PROXY header
// wanted, it reads that before it greets. The changes are made before the
// first client.
func startRecorder(t testing.TB, header wantHeader, changes ...func(*recorder)) *recorder {
	t.Helper()
	r := &recorder{greeting: "220 recorder.test ESMTP\r\n", ehlo: recorderEHLO}
	for _, change := range changes {
		change(r)
	}
	r.address = startServer(t, func(conn net.Conn) {
		s := &recording{}
		r.mu.Lock()
		r.sessions = append(r.sessions, s)
		r.mu.Unlock()
		r.serve(conn, s, header)
	})
	return r
}

// startServer serves TCP on a free port until the end of the test. The
// connections have a deadline, and are closed when serve returns.
func startServer(t testing.TB, serve func(net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var sessions sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		sessions.Wait()
	})
	sessions.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(3 * patience))
			sessions.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	return listener.Addr().String()
}

// wantHeader says whether a recorder reads a PROXY header.
type wantHeader int

const (
	withoutHeader wantHeader = iota
	withHeader
)

func (r *recorder) serve(conn net.Conn, s *recording, header wantHeader) {
	defer func() {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
	}()
	if header == withHeader {
		buffer := make([]byte, 64<<10)
		n, err := conn.Read(buffer) // as Postfix and Exim: one read
		if err != nil {
			return
		}
		length := headerLength(buffer[:n])
		s.mu.Lock()
		s.firstRead, s.header, s.received = n, buffer[:length:length], bytes.Clone(buffer[length:n])
		s.mu.Unlock()
		if length != n || length == 0 {
			return // the tests look at firstRead and header
		}
	}
	r.speak(conn, bufio.NewReader(io.TeeReader(conn, s)))
}

// Write keeps what the backend reads.
func (s *recording) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, p...)
	return len(p), nil
}

// headerLength is the length of the PROXY header at the start of data, 0
// where there is none.
func headerLength(data []byte) int {
	if bytes.HasPrefix(data, []byte("PROXY ")) {
		return bytes.Index(data, []byte("\r\n")) + 2
	}
	if bytes.HasPrefix(data, []byte("\r\n\r\n\x00\r\nQUIT\n")) && len(data) >= 16 {
		return min(len(data), 16+int(binary.BigEndian.Uint16(data[14:])))
	}
	return 0
}

const recorderEHLO = "250-recorder.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"

// speak answers commands until the client leaves. To XCUT and a quoted string
// it says what stands in that, and hangs up.
func (r *recorder) speak(conn net.Conn, in *bufio.Reader) {
	answer := func(reply string) bool {
		_, err := io.WriteString(conn, reply)
		return err == nil
	}
	if !answer(r.greeting) {
		return
	}
	for {
		line, err := readUntil(in, "\r\n")
		if err != nil {
			answer(r.farewell)
			return
		}
		var size int64
		verb, argument, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), " ")
		reply := "250 2.0.0 Ok\r\n"
		switch strings.ToUpper(verb) {
		case "EHLO":
			reply = r.ehlo
		case "DATA":
			if !answer("354 Go ahead\r\n") {
				return
			}
			_, err = readUntil(in, "\r\n.\r\n")
		case "BDAT":
			if _, err = fmt.Sscanf(line[len(verb):], "%d", &size); err == nil {
				_, err = io.CopyN(io.Discard, in, size)
			}
		case "AUTH":
			reply = "235 2.7.0 Ok\r\n"
		case "XBLOB":
			reply = string(r.blob)
		case "XCUT":
			if last, err := strconv.Unquote(argument); err == nil {
				answer(last)
			}
			return
		case "QUIT":
			answer("221 2.0.0 Bye\r\n")
			return
		}
		if err != nil || !answer(reply) {
			return
		}
	}
}

// readUntil reads up to and with the end, which may begin in the CRLF that
// came before (so a DATA of nothing but its dot ends).
func readUntil(in *bufio.Reader, end string) (string, error) {
	read := []byte{}
	if end != "\r\n" {
		read = append(read, "\r\n"...)
	}
	for !bytes.HasSuffix(read, []byte(end)) {
		b, err := in.ReadByte()
		if err != nil {
			return "", err
		}
		read = append(read, b)
	}
	return string(read), nil
}

// clients are the sessions so far, without those in which the proxy looked
// for itself whether the backend is there: their header says LOCAL.
func (r *recorder) clients() []*recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	var clients []*recording
	for _, s := range r.sessions {
		s.mu.Lock()
		local := len(s.header) > 12 && s.header[12] == 0x20
		s.mu.Unlock()
		if !local {
			clients = append(clients, s)
		}
	}
	return clients
}

// requireClients wants that the backend was reached by so many sessions and no
// more. It makes one itself to see that: connections are taken in their order.
func (r *recorder) requireClients(t testing.TB, p *proxy, want int) {
	t.Helper()
	marker := newMarker()
	c := open(t, p.ports()[0], clientOptions{serverName: defaultDomain, trust: p.certificates})
	c.must(t, 250, "EHLO "+marker)
	c.must(t, 221, "QUIT")
	r.waitSession(t, marker)
	eventually(t, fmt.Sprintf("the backend had %d clients besides the test's own", want), func() bool {
		return len(r.clients()) <= want+1 // a connection whose header is not read yet counts
	})
	if got := len(r.clients()) - 1; got != want {
		t.Errorf("the backend had %d clients, want %d", got, want)
	}
}

// bytes are what the session has received until now.
func (s *recording) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.received)
}

// waitSession waits for the session that got the marker, and for its end.
func (r *recorder) waitSession(t testing.TB, marker string) *recording {
	t.Helper()
	var found *recording
	eventually(t, "the recorder has a session with "+marker, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, s := range r.sessions {
			s.mu.Lock()
			done := s.ended && bytes.Contains(s.received, []byte(marker))
			s.mu.Unlock()
			if done {
				found = s
			}
		}
		return found != nil
	})
	return found
}
