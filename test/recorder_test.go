package test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a backend that keeps every byte it gets and speaks as much SMTP
// as it takes to get them. Only CRLF ends its lines and only CRLF.CRLF ends
// its DATA.
type recorder struct {
	address string
	blob    []byte // what it answers to XBLOB, as it is

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
// wanted, it reads that before it greets.
func startRecorder(t testing.TB, header wantHeader) *recorder {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{address: listener.Addr().String()}
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
			s := &recording{}
			r.mu.Lock()
			r.sessions = append(r.sessions, s)
			r.mu.Unlock()
			sessions.Go(func() { r.serve(conn, s, header) })
		}
	})
	return r
}

// wantHeader says whether a recorder reads a PROXY header.
type wantHeader int

const (
	withoutHeader wantHeader = iota
	withHeader
)

func (r *recorder) serve(conn net.Conn, s *recording, header wantHeader) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
	}()
	conn.SetDeadline(time.Now().Add(3 * patience))
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

// speak answers commands until the client leaves.
func (r *recorder) speak(conn net.Conn, in *bufio.Reader) {
	answer := func(reply string) bool {
		_, err := io.WriteString(conn, reply)
		return err == nil
	}
	if !answer("220 recorder.test ESMTP\r\n") {
		return
	}
	for {
		line, err := readUntil(in, "\r\n")
		if err != nil {
			return
		}
		var size int64
		verb, _, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), " ")
		reply := "250 2.0.0 Ok\r\n"
		switch strings.ToUpper(verb) {
		case "EHLO":
			reply = recorderEHLO
		case "DATA":
			if !answer("354 Go ahead\r\n") {
				return
			}
			_, err = readUntil(in, "\r\n.\r\n")
		case "BDAT":
			if _, err = fmt.Sscanf(line[len(verb):], "%d", &size); err == nil {
				_, err = io.CopyN(io.Discard, in, size)
			}
		case "XBLOB":
			reply = string(r.blob)
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
