package main

import (
	"bufio"
	"fmt"
	"hash/crc64"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	sinkReplies = "250-sink.soak.example\r\n250-SIZE 100000000\r\n250-8BITMIME\r\n250-CHUNKING\r\n250 PIPELINING\r\n"
	// idLine is the first line of each message.
	idLine = "X-Soak-Id: "
	// nameLines are what VRFY is answered with, for slow readers.
	nameLines = 1500
	nameLine  = "250-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789\r\n"
)

// sink is a backend that notes in the ledger what it takes. It can be killed
// and comes back at the same address.
type sink struct {
	ledger  *ledger
	address string

	mu       sync.Mutex
	listener net.Listener // nil while it is dead
	conns    map[net.Conn]bool
}

func newSink(l *ledger) (*sink, error) {
	s := &sink{ledger: l, address: "127.0.0.1:0", conns: make(map[net.Conn]bool)}
	return s, s.start()
}

func (s *sink) start() error {
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener, s.address = listener, listener.Addr().String()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(listener, conn)
		}
	}()
	return nil
}

// kill ends the backend as a crash does: with a reset of each connection.
func (s *sink) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.listener.Close()
	s.listener = nil
	for conn := range s.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
}

// dead tells whether it was killed and is not back.
func (s *sink) dead() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listener == nil
}

// open is how many connections it has.
func (s *sink) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *sink) serve(listener net.Listener, conn net.Conn) {
	defer conn.Close()
	s.mu.Lock()
	if s.listener != listener { // it was killed meanwhile
		s.mu.Unlock()
		return
	}
	s.conns[conn] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}()
	in := bufio.NewReaderSize(conn, 16<<10)
	var header [16]byte // PROXY version 2: its length stands at the end
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return
	}
	if _, err := in.Discard(int(header[14])<<8 | int(header[15])); err != nil {
		return
	}
	_ = s.dialogue(conn, in)
}

// dialogue answers commands.
func (s *sink) dialogue(conn net.Conn, in *bufio.Reader) error {
	reply := "220 sink.soak.example ESMTP\r\n"
	var chunks message
	for {
		if _, err := io.WriteString(conn, reply); err != nil {
			return err
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		verb, argument, _ := strings.Cut(strings.TrimSpace(line), " ")
		reply = "250 ok\r\n"
		switch verb {
		case "EHLO":
			reply = sinkReplies
		case "DATA":
			if _, err = io.WriteString(conn, "354 go on\r\n"); err == nil {
				err = s.data(in)
			}
		case "BDAT":
			err = s.chunk(in, argument, &chunks)
		case "VRFY":
			reply = strings.Repeat(nameLine, nameLines) + "250 that is all\r\n"
		case "RSET":
			chunks = message{}
		case "QUIT":
			_, err := io.WriteString(conn, "221 bye\r\n")
			return err
		}
		if err != nil {
			return err
		}
	}
}

// data reads up to the line with a dot alone. No line of a message here begins
// with a dot.
func (s *sink) data(in *bufio.Reader) error {
	var m message
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if string(line) == ".\r\n" {
			s.ledger.takes(m.id, m.sum)
			return nil
		}
		m.add(line)
	}
}

func (s *sink) chunk(in *bufio.Reader, argument string, m *message) error {
	var size int
	if _, err := fmt.Sscan(argument, &size); err != nil {
		return err
	}
	part := make([]byte, size)
	if _, err := io.ReadFull(in, part); err != nil {
		return err
	}
	if size > 200<<10 {
		time.Sleep(50 * time.Millisecond) // a slow disk, for the proxy to bear
	}
	m.add(part)
	if strings.HasSuffix(argument, " LAST") {
		s.ledger.takes(m.id, m.sum)
		*m = message{}
	}
	return nil
}

// message is what came of one so far.
type message struct {
	id, sum uint64
	begun   bool
}

func (m *message) add(part []byte) {
	if !m.begun {
		m.begun = true
		_, _ = fmt.Sscanf(string(part[:min(len(part), 64)]), idLine+"%d", &m.id) // 0 is foreign
	}
	m.sum = crc64.Update(m.sum, table, part)
}
