package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// The backend is a process of its own, so that its descriptors are not the
// clients': five thousand sessions have as many at either.

const (
	sinkBuffer = 64 << 10
	// helpLine is what the reply to HELP consists of, n times in "HELP n".
	helpLine = "214-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789\r\n"
)

// serveSink is the backend, until its input ends. It tells the addresses of a
// port that wants a PROXY header and of one that does not.
func serveSink() error {
	for _, session := range []func(net.Conn, *bufio.Reader) error{sinkHeader, sinkDialogue} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(listener.Addr())
		go sinkAccept(listener, session)
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func sinkAccept(listener net.Listener, session func(net.Conn, *bufio.Reader) error) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = session(conn, bufio.NewReaderSize(conn, 512)) // many wait there
		}()
	}
}

// sinkHeader reads a PROXY header of either version.
func sinkHeader(conn net.Conn, small *bufio.Reader) error {
	header, err := small.Peek(5)
	if err != nil {
		return err
	}
	switch {
	case bytes.HasPrefix(header, []byte("\r\n\r\n")):
		start, err := small.Peek(16)
		if err != nil {
			return err
		}
		if _, err := small.Discard(16 + int(start[14])<<8 + int(start[15])); err != nil {
			return err
		}
	case bytes.HasPrefix(header, []byte("PROXY")):
		if _, err := small.ReadString('\n'); err != nil {
			return err
		}
	}
	return sinkDialogue(conn, small)
}

// sinkDialogue answers commands, and takes mail of which it keeps none.
func sinkDialogue(conn net.Conn, in *bufio.Reader) error {
	reply := "220 sink.bench.example ESMTP\r\n"
	for {
		if _, err := io.WriteString(conn, reply); err != nil {
			return err
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		verb, argument, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "EHLO":
			reply = "250-sink.bench.example\r\n250-SIZE 100000000\r\n250-8BITMIME\r\n250 PIPELINING\r\n"
		case "DATA":
			if _, err := io.WriteString(conn, "354 go on\r\n"); err != nil {
				return err
			}
			if err := sinkMessage(in); err != nil {
				return err
			}
			reply = "250 taken\r\n"
		case "HELP":
			if err := sinkHelp(conn, argument); err != nil {
				return err
			}
			reply = "214 that is all\r\n"
		case "QUIT":
			_, err := io.WriteString(conn, "221 bye\r\n")
			return err
		default:
			reply = "250 ok\r\n"
		}
	}
}

// sinkMessage reads up to the line with a dot alone. The message of the bench
// has none that begins with a dot.
func sinkMessage(in *bufio.Reader) error {
	large := bufio.NewReaderSize(in, sinkBuffer)
	for {
		line, err := large.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return err
		}
		if string(line) == ".\r\n" {
			if large.Buffered() > 0 {
				return errors.New("more behind the message")
			}
			return nil
		}
	}
}

func sinkHelp(conn net.Conn, argument string) error {
	var lines int
	if _, err := fmt.Sscan(argument, &lines); err != nil {
		return err
	}
	many := []byte(strings.Repeat(helpLine, 512))
	for lines > 0 {
		n := min(lines, 512)
		if _, err := conn.Write(many[:n*len(helpLine)]); err != nil {
			return err
		}
		lines -= n
	}
	return nil
}
