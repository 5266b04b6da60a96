package starttls_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

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
		_, err := server.Negotiate(context.Background(), conn, "session 1")
		fmt.Println("Negotiate:", err)
		conn.Close()
	})
	both.Go(func() {
		fmt.Fprint(client, "EHLO client.example\r\nSTARTTLS\r\n")
	})
	said, _ := io.ReadAll(client)
	both.Wait()
	fmt.Print(strings.ReplaceAll(string(said), "\r", ""))

	// Output:
	// Negotiate: <nil>
	// 220 mx.example.com ESMTP ready (session 1)
	// 250-mx.example.com
	// 250-PIPELINING
	// 250-8BITMIME
	// 250 STARTTLS
	// 220 2.0.0 Ready to start TLS
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
