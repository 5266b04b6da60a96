package starttls_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// A client asks for TLS. The next byte on the connection then belongs to the
// handshake: tls.Server(conn, config) goes on from here.
func ExampleServer() {
	server := &starttls.Server{
		Hostname: "mx.example.com",
		Keywords: []string{"PIPELINING", "8BITMIME"},
	}
	client, conn := net.Pipe()
	var both sync.WaitGroup
	both.Go(func() {
		plaintext, err := server.Negotiate(context.Background(), conn, "session 1")
		fmt.Println("without TLS:", plaintext != nil, err)
		conn.Close()
	})
	both.Go(func() {
		fmt.Fprint(client, "EHLO client.example\r\nSTARTTLS\r\n")
	})
	said, _ := io.ReadAll(client)
	both.Wait()
	fmt.Print(strings.ReplaceAll(string(said), "\r", ""))

	// Output:
	// without TLS: false <nil>
	// 220 mx.example.com ESMTP ready (session 1)
	// 250-mx.example.com
	// 250-PIPELINING
	// 250-8BITMIME
	// 250 STARTTLS
	// 220 2.0.0 Ready to start TLS
}

// Where TLS is optional, a client may send mail without, and ask for TLS later.
func ExamplePlaintext() {
	client, conn := net.Pipe()
	var both sync.WaitGroup
	both.Go(func() {
		defer conn.Close()
		server := &starttls.Server{Policy: starttls.Optional, Hostname: "mx.example.com"}
		plaintext, err := server.Negotiate(context.Background(), conn, "session 1")
		if err != nil || plaintext == nil {
			return // the session is over, or TLS begins
		}
		backend := dialBackend() // and send it the PROXY header of a client without TLS
		defer backend.Close()
		if greeting, err := starttls.ReadGreeting(backend); err != nil || !greeting.Ready() {
			return // with 421, or the greeting's text, for the client's command
		}
		if reply, err := plaintext.Replay(backend); err != nil || !reply.Ready() {
			return // the same
		}
		filter := starttls.NewFilter(conn, backend, starttls.FilterConfig{
			Hostname: "mx.example.com", ID: "session 1", Plaintext: plaintext,
		})
		both.Go(func() { filter.CopyReplies() })
		if err := filter.CopyCommands(); errors.Is(err, starttls.ErrSTARTTLS) {
			// Close the backend's connection, do the handshake with conn,
			// dial again, and relay with a Filter that has no Plaintext.
			fmt.Println("TLS begins")
		}
	})
	both.Go(func() {
		fmt.Fprint(client, "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\n")
		fmt.Fprint(client, "RSET\r\nAUTH PLAIN AGEAYg==\r\n")
		fmt.Fprint(client, "STARTTLS\r\n")
	})
	said, _ := io.ReadAll(client)
	both.Wait()
	fmt.Print(strings.ReplaceAll(string(said), "\r", ""))

	// Output:
	// backend: EHLO client.example
	// backend: MAIL FROM:<a@client.example>
	// backend: RSET
	// TLS begins
	// 220 mx.example.com ESMTP ready (session 1)
	// 250-mx.example.com
	// 250 STARTTLS
	// 250 2.0.0 Ok
	// 250 2.0.0 Ok
	// 530 5.7.0 Must issue a STARTTLS command first (session 1)
	// 220 2.0.0 Ready to start TLS
}

// dialBackend connects to a backend that takes every command.
func dialBackend() net.Conn {
	conn, backend := net.Pipe()
	go func() {
		fmt.Fprint(backend, "220 backend.example ESMTP\r\n")
		for commands := bufio.NewScanner(backend); commands.Scan(); {
			fmt.Println("backend:", commands.Text())
			fmt.Fprint(backend, "250 2.0.0 Ok\r\n")
		}
	}()
	return conn
}

// A backend is asked for its name and its keywords. The identity is for the
// field of that name of a Server.
func ExampleProbe() {
	backend, conn := net.Pipe()
	go func() {
		commands := bufio.NewScanner(conn)
		fmt.Fprint(conn, "220 backend.example ESMTP\r\n")
		for _, reply := range []string{"250-backend.example\r\n250-SIZE 1000\r\n250 AUTH PLAIN\r\n", "221 2.0.0 Bye\r\n"} {
			commands.Scan()
			fmt.Fprint(conn, reply)
		}
	}()
	identity, err := starttls.Probe(backend, "proxy.example.com")
	fmt.Println(identity.Hostname, identity.Keywords, err)

	_, err = starttls.Probe(readWriter{strings.NewReader("554 no service here\r\n"), io.Discard}, "proxy.example.com")
	if failed, ok := errors.AsType[*starttls.StepError](err); ok {
		fmt.Println(failed.Step, failed.Code)
	}

	// Output:
	// backend.example [SIZE 1000] <nil>
	// greeting 554
}

// A header tells the backend's readers that a message came over TLS.
func ExampleTrace() {
	session := starttls.FilterConfig{
		Hostname: "mx.example.com", ID: "session-1",
		Trace: &starttls.Trace{
			Client:     netip.MustParseAddr("192.0.2.1"),
			ServerName: "mail.example.com",
			TLSVersion: "TLSv1.3",
			Cipher:     "TLS_AES_128_GCM_SHA256",
			Now:        func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
		},
	}
	client, clientConn := net.Pipe() // in place of a tls.Conn
	backend, backendConn := net.Pipe()
	filter := starttls.NewFilter(clientConn, backendConn, session)
	go filter.CopyCommands()
	go filter.CopyReplies()
	go func() {
		reply := make([]byte, 100)
		for _, text := range []string{"EHLO client.example\r\n", "DATA\r\n"} {
			fmt.Fprint(client, text)
			client.Read(reply)
		}
		fmt.Fprint(client, "Subject: hello\r\n.\r\n")
	}()
	lines := bufio.NewScanner(backend)
	for lines.Scan() && lines.Text() != "." {
		fmt.Println(lines.Text())
		switch lines.Text() {
		case "EHLO client.example":
			fmt.Fprint(backend, "250 backend.example\r\n")
		case "DATA":
			fmt.Fprint(backend, "354 go on\r\n")
		}
	}
	client.Close()
	backend.Close()

	// Output:
	// EHLO client.example
	// DATA
	// Received: from client.example ([192.0.2.1])
	// 	(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256 for server name
	// 	mail.example.com)
	// 	by mx.example.com with ESMTPS id session-1;
	// 	Fri, 02 Jan 2026 03:04:05 +0000
	// Subject: hello
}

// A backend greets. One that does not take commands says so with its code.
func ExampleReadGreeting() {
	backend := strings.NewReader("220-mx.example.com\r\n220 ESMTP\r\n")
	greeting, err := starttls.ReadGreeting(backend)
	fmt.Println(greeting.Code, greeting.Ready(), err)

	backend = strings.NewReader("554 no service here\r\n")
	greeting, err = starttls.ReadGreeting(backend)
	fmt.Println(greeting.Code, greeting.Ready(), err)

	backend = strings.NewReader("SSH-2.0-OpenSSH_9.2\r\n")
	_, err = starttls.ReadGreeting(backend)
	fmt.Println(errors.Is(err, starttls.ErrGreeting))

	// Output:
	// 220 true <nil>
	// 554 false <nil>
	// true
}

// A session between a client under TLS and a backend that offers STARTTLS.
func ExampleFilter() {
	client, clientConn := net.Pipe() // in place of a tls.Conn
	backend, backendConn := net.Pipe()
	filter := starttls.NewFilter(clientConn, backendConn, starttls.FilterConfig{
		Hostname: "mx.example.com", ID: "session 1",
	})
	var session sync.WaitGroup
	session.Go(func() {
		if err := filter.CopyCommands(); err != nil {
			fmt.Println("commands:", err)
		}
		backendConn.Close() // a half-close, where there is one
	})
	session.Go(func() {
		if err := filter.CopyReplies(); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			fmt.Println("replies:", err)
		}
	})
	session.Go(func() {
		line := make([]byte, 100)
		n, _ := backend.Read(line)
		fmt.Printf("the backend gets %q\n", line[:n])
		fmt.Fprint(backend, "250-backend.example\r\n250-SIZE 1000\r\n250 STARTTLS\r\n")
	})

	reply := make([]byte, 100)
	for _, command := range []string{"EHLO client.example\r\n", "STARTTLS\r\n"} {
		fmt.Fprint(client, command)
		n, _ := client.Read(reply)
		fmt.Print(strings.ReplaceAll(string(reply[:n]), "\r", ""))
	}
	client.Close()
	session.Wait()

	// Output:
	// the backend gets "EHLO client.example\r\n"
	// 250-backend.example
	// 250 SIZE 1000
	// 503 5.5.1 TLS is already active (session 1)
}
