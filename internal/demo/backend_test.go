package demo_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/demo"
)

func TestPrintsMessageAndHeader(t *testing.T) {
	address, printed := start(t)
	d := dial(t, address, header(t, overTLS(t)...))
	ehlo := d.say(250, "EHLO laptop.example")
	for _, keyword := range []string{"AUTH PLAIN", "SIZE 52428800"} {
		if !strings.Contains(ehlo, keyword) {
			t.Errorf("EHLO lacks %q:\n%s", keyword, ehlo)
		}
	}
	if strings.Contains(ehlo, "STARTTLS") {
		t.Errorf("EHLO has STARTTLS:\n%s", ehlo)
	}
	d.say(235, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00alice\x00secret")))
	d.send("a@example.com", "b@example.net", "Subject: hello\r\n\r\n\tGrüße\r\n..dot\r\n")
	d.say(221, "QUIT")

	const want = `
=== message 1 ===
client       192.0.2.7:41234
destination  198.51.100.1:465
TLS          TLSv1.3 TLS_AES_128_GCM_SHA256
server name  a.localhost
session id   8f3c17a0
EHLO         laptop.example
AUTH PLAIN   alice
MAIL FROM    <a@example.com>
RCPT TO      <b@example.net>
| Subject: hello
| 
| 	Grüße
| .dot
`
	if got := printed.String(); got != want {
		t.Errorf("printed:\n%s\nwant:\n%s", got, want)
	}
}

func TestPlainTextClientGetsNoAUTH(t *testing.T) {
	address, printed := start(t)
	d := dial(t, address, header(t))
	if ehlo := d.say(250, "EHLO laptop.example"); strings.Contains(ehlo, "AUTH") {
		t.Errorf("EHLO has AUTH:\n%s", ehlo)
	}
	d.say(538, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00alice\x00secret")))
	d.send("a@example.com", "b@example.net", "Hello\r\n")
	for _, want := range []string{"TLS          none: the client spoke plain text\n", "server name  not told\n"} {
		if got := printed.String(); !strings.Contains(got, want) {
			t.Errorf("printed:\n%s\nwithout %q", got, want)
		}
	}
}

func TestMissingHeaderClosesTheConnection(t *testing.T) {
	address, printed := start(t)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(conn, "EHLO laptop.example\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if len(answer) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("answer %q, %v; want none and a closed connection", answer, err)
	}
	if got := printed.String(); strings.Contains(got, "message") {
		t.Errorf("printed %q", got)
	}
}

// The proxy's health check comes with LOCAL, which tells of no client.
func TestHealthCheckPrintsNothing(t *testing.T) {
	address, printed := start(t)
	local := proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	raw, err := local.Format()
	if err != nil {
		t.Fatal(err)
	}
	d := dial(t, address, raw)
	d.say(250, "EHLO proxy.example")
	d.say(221, "QUIT")
	if _, err := d.text.ReadLine(); !errors.Is(err, io.EOF) {
		t.Errorf("after QUIT: %v", err)
	}
	if got := printed.String(); got != "" {
		t.Errorf("printed %q", got)
	}
}

// A message cannot move the cursor, turn the direction of writing, or pass
// for what the PROXY header told.
func TestTerminalIsSafe(t *testing.T) {
	address, printed := start(t)
	d := dial(t, address, header(t, proxyproto.TLV{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: []byte("1\n\x1b[2J")}))
	d.say(250, "EHLO laptop.example")
	d.send("a@example.com", "b@example.net",
		"\x1b]0;owned\x07 \u202egnp \xff \x9b \x7f\r\nclient       6.6.6.6:6\r\n")
	got := printed.String()
	for _, want := range []string{
		`session id   1\n\x1b[2J` + "\n",
		`| \x1b]0;owned\a \u202egnp \xff \x9b \x7f` + "\n",
		"| client       6.6.6.6:6\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("printed:\n%q\nwithout %q", got, want)
		}
	}
}

func TestLongMessageIsCut(t *testing.T) {
	address, printed := start(t)
	d := dial(t, address, header(t))
	d.say(250, "EHLO laptop.example")
	line := strings.Repeat("x", 62) + "\r\n"
	d.send("a@example.com", "b@example.net", strings.Repeat(line, 2000))
	got := printed.String()
	if !strings.HasSuffix(got, fmt.Sprintf("\n(cut here: %d bytes more)\n", 2000*64-64<<10)) {
		t.Errorf("printed ends in %q", got[max(0, len(got)-100):])
	}
	if len(got) > 80<<10 {
		t.Errorf("printed %d bytes", len(got))
	}
}

func TestMessagesDoNotInterleave(t *testing.T) {
	address, printed := start(t)
	const clients, messages = 8, 5
	t.Run("clients", func(t *testing.T) {
		for i := range clients {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				d := dial(t, address, header(t, overTLS(t)...))
				d.say(250, "EHLO laptop.example")
				for range messages {
					d.send(fmt.Sprintf("%d@example.com", i), "b@example.net",
						strings.Repeat(fmt.Sprintf("client %d\r\n", i), 100))
				}
			})
		}
	})
	printed.mu.Lock()
	defer printed.mu.Unlock()
	if len(printed.writes) != clients*messages {
		t.Fatalf("%d writes, want %d", len(printed.writes), clients*messages)
	}
	for i, block := range printed.writes {
		var number, from int
		_, rest, _ := strings.Cut(block, "MAIL FROM    <")
		_, err1 := fmt.Sscanf(block, "\n=== message %d ===", &number)
		_, err2 := fmt.Sscanf(rest, "%d@", &from)
		if err := errors.Join(err1, err2); err != nil || number != i+1 ||
			strings.Count(block, fmt.Sprintf("| client %d\n", from)) != 100 || strings.Count(block, "| ") != 100 {
			t.Errorf("block %d (%v):\n%s", i, err, block)
		}
	}
}

func TestBackendClosesOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := demo.NewBackend(new(bytes.Buffer))
	if err := backend.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := backend.Close(); !errors.Is(err, demo.ErrServerClosed) {
		t.Errorf("second Close: %v", err)
	}
	if err := backend.Serve(l); !errors.Is(err, demo.ErrServerClosed) {
		t.Errorf("Serve after Close: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is left open: %v", err)
	}
}
