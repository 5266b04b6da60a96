package starttls_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// The tests are named after the numbered requirements of the project. What a
// transcript can show stands in testdata.

// tcpPair returns both ends of a connection over loopback, with deadlines.
func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	for _, conn := range []net.Conn{dialled, accepted} {
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

// negotiate plays segments to a Server and returns what it said, and what it
// left on the connection.
func negotiate(t *testing.T, segments ...string) (said, left string, err error) {
	t.Helper()
	return negotiateWith(t, &starttls.Server{Hostname: testHost}, segments...)
}

func negotiateWith(t *testing.T, server *starttls.Server, segments ...string) (said, left string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var pumps sync.WaitGroup
		p := newPeer()
		conn := p.dial(&pumps)
		pumps.Go(func() {
			_, err = server.Negotiate(context.Background(), conn, testID)
			rest, _ := io.ReadAll(conn)
			left = string(rest)
			conn.Close()
		})
		for _, segment := range segments {
			synctest.Wait()
			p.out.Write([]byte(segment))
		}
		synctest.Wait()
		p.out.Close()
		pumps.Wait()
		said = string(p.in.take())
	})
	return said, left, err
}

const (
	greeting  = "220 mx.example.com ESMTP ready (s1)\r\n"
	injection = "503 5.5.1 No command may follow STARTTLS in its group (s1)\r\n"
	ready     = "220 2.0.0 Ready to start TLS\r\n"
)

func TestR1_Injection(t *testing.T) {
	tails := map[string]string{
		"command":     "EHLO x\r\n",
		"one byte":    "E",
		"LF":          "\n",
		"CRLF":        "\r\n",
		"100 kB":      strings.Repeat("NOOP\r\n", 100_000/6),
		"ClientHello": "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
		"STARTTLS":    "STARTTLS\r\n",
	}
	for name, tail := range tails {
		t.Run(name, func(t *testing.T) {
			for _, segments := range [][]string{
				{"STARTTLS\r\n" + tail},
				{"EHLO a\r\nSTAR", "TTLS\r\n" + tail},
				{"STARTTLS\r", "\n" + tail},
				{"STARTTLS\r\n" + tail[:1], tail[1:]},
				{"STARTTLS\n" + tail},
			} {
				said, _, err := negotiate(t, segments...)
				if !errors.Is(err, starttls.ErrInjection) || !strings.HasSuffix(said, injection) ||
					strings.Contains(said, ready) || strings.Count(said, "503") != 1 {
					t.Errorf("Negotiate returned %v\nC: %.60q\nS: %q", err, segments, said)
				}
			}
		})
	}
}

// What comes behind the 220 goes to TLS, all of it, and breaks the handshake.
func TestR2_BytesBehind220AreForTLS(t *testing.T) {
	for _, tail := range []string{"EHLO x\r\n", "\n", "\x16\x03\x01\x00\x02\x01\x00", strings.Repeat("NOOP\r\n", 20_000)} {
		said, left, err := negotiate(t, "STARTTLS\r\n", tail)
		if err != nil || said != greeting+ready || left != tail {
			t.Errorf("Negotiate returned %v\nC: %.60q\nS: %q\nleft for TLS: %.60q", err, tail, said, left)
		}
	}
	play(t, "plain_after_220.smtp")
}

func TestR3_220IsTheLastInPlain(t *testing.T) {
	play(t, "plain_pipelined_group.smtp")
	play(t, "plain_pipelined_cut_lines.smtp")
	play(t, "plain_starttls.smtp")
}

func TestR4_NothingUnasked(t *testing.T) {
	play(t, "plain_after_220.smtp")
	play(t, "relay_message.smtp")
}

// Nothing said before TLS comes to the backend.
func TestR5_StateBeforeTLSIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running sync.WaitGroup
		client, backend := newPeer(), newPeer()
		conn := client.dial(&running)
		running.Go(func() {
			defer conn.Close()
			_, err := (&starttls.Server{Hostname: testHost}).Negotiate(context.Background(), conn, testID)
			if err != nil {
				t.Errorf("Negotiate: %v", err)
				return
			}
			f := starttls.NewFilter(conn, backend.other(), starttls.FilterConfig{Hostname: testHost, ID: testID})
			running.Go(func() { f.CopyReplies() })
			if err := f.CopyCommands(); err != nil {
				t.Errorf("CopyCommands: %v", err)
			}
		})
		for _, segment := range []string{"EHLO attacker\r\nMAIL FROM:<a@b>\r\nAUTH PLAIN AGEAYg==\r\nSTARTTLS\r\n", "MAIL FROM:<c@d>\r\n"} {
			synctest.Wait()
			client.out.Write([]byte(segment))
		}
		synctest.Wait()
		if got := string(backend.in.take()); got != "MAIL FROM:<c@d>\r\n" {
			t.Errorf("B< %q\nS: %q", got, client.in.take())
		}
		client.out.Close()
		backend.out.Close()
		running.Wait()
	})
}

func TestR6_NoAuthBeforeTLS(t *testing.T) {
	play(t, "plain_required.smtp")
	play(t, "plain_keywords_hidden.smtp")
}

func TestR7_Replies(t *testing.T) {
	play(t, "plain_starttls_argument.smtp")
	play(t, "plain_tls_unavailable.smtp")
	play(t, "plain_required.smtp")
}

func TestR8_STARTTLSWithoutEHLO(t *testing.T) { play(t, "plain_without_ehlo.smtp") }

// A handshake that fails is not followed by SMTP, whatever the client sends.
func TestR11_FailedHandshakeEndsThePlainPhase(t *testing.T) {
	client, server := tcpPair(t)
	if _, err := client.Write([]byte("STARTTLS\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := (&starttls.Server{Hostname: testHost}).Negotiate(t.Context(), server, testID); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write([]byte("EHLO x\r\nMAIL FROM:<a@b>\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := server.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	err := tls.Server(server, &tls.Config{}).Handshake()
	if header, ok := errors.AsType[tls.RecordHeaderError](err); !ok {
		t.Errorf("the handshake ended with %v, want a RecordHeaderError; %v", err, header)
	}
	server.CloseWrite()
	said, err := io.ReadAll(client)
	if rest, found := strings.CutPrefix(string(said), greeting+ready); err != nil || !found || strings.Contains(rest, "25") {
		t.Errorf("S: %q, %v", said, err)
	}
}

func TestR17_ClientHelloInPlain(t *testing.T) {
	play(t, "plain_client_hello.smtp")
	said, _, err := negotiate(t, "EHLO x\r\n", "\x16\x03\x01\x00\x05\n\n\n\n\n")
	if !errors.Is(err, starttls.ErrTLSRecord) || strings.Count(said, "\r\n") != 3 {
		t.Errorf("Negotiate returned %v\nS: %q", err, said)
	}
}

// The last reply is written before the function returns, and comes through
// where the caller closes as the documentation says.
func TestR63_LastReplyIsNotLost(t *testing.T) {
	client, server := tcpPair(t)
	var both sync.WaitGroup
	both.Go(func() {
		_, err := (&starttls.Server{Hostname: testHost}).Negotiate(t.Context(), server, testID)
		if !errors.Is(err, starttls.ErrQuit) {
			t.Errorf("Negotiate returned %v", err)
		}
		server.CloseWrite()
		io.Copy(io.Discard, server)
		server.Close()
	})
	if _, err := client.Write(append([]byte("QUIT\r\n"), make([]byte, 1<<20)...)); err != nil {
		t.Error(err)
	}
	client.CloseWrite()
	said, err := io.ReadAll(client)
	both.Wait()
	if want := greeting + "221 2.0.0 mx.example.com closing connection\r\n"; err != nil || string(said) != want {
		t.Errorf("S: %q, %v", said, err)
	}
}

func TestR65_STARTTLSIsNeverFirst(t *testing.T) {
	for _, keywords := range [][]string{nil, {"PIPELINING"}, {"STARTTLS"}, {"", "A\r\nB", "8BITMIME"}} {
		said, _, _ := negotiateWith(t, &starttls.Server{Hostname: testHost, Keywords: keywords}, "EHLO x\r\n")
		reply := strings.TrimPrefix(said, greeting)
		if !strings.HasPrefix(reply, "250-mx.example.com\r\n") || !strings.HasSuffix(reply, "\r\n250 STARTTLS\r\n") ||
			strings.Count(reply, "STARTTLS") != 1 || strings.Count(reply, "250 ") != 1 {
			t.Errorf("Keywords %q: S: %q", keywords, said)
		}
	}
}

func TestR66_PlainEHLO(t *testing.T) {
	play(t, "plain_keywords_hidden.smtp")
	const group = "EHLO x\r\nNOOP\r\nMAIL FROM:<a@b>\r\nRSET\r\nSTARTTLS\r\n"
	for at := range len(group) {
		said, _, err := negotiate(t, group[:at], group[at:])
		want := greeting + "250-mx.example.com\r\n250 STARTTLS\r\n250 2.0.0 Ok\r\n" +
			"530 5.7.0 Must issue a STARTTLS command first (s1)\r\n250 2.0.0 Ok\r\n" + ready
		if err != nil || said != want {
			t.Errorf("cut at %d: %v\nS: %q", at, err, said)
		}
	}
}

func TestR72_PlainLimits(t *testing.T) {
	for _, name := range []string{"line_of_2048", "line_too_long", "too_many_bytes", "too_many_commands", "too_many_errors", "no_limits", "syntax"} {
		play(t, "plain_"+name+".smtp")
	}
}

func TestR74_PlainTimes(t *testing.T) {
	play(t, "plain_idle.smtp")
	play(t, "plain_total_time.smtp")
}

// A context that ends while a command is handled ends the session before the
// next one is awaited, however the deadlines fall. Behind the 220 it ends
// without another word.
func TestShutdownWithinCommand(t *testing.T) {
	for available, want := range map[bool]string{
		false: "454 4.7.0 TLS not available due to local problem (s1)\r\n421 4.3.2 mx.example.com shutting down (s1)\r\n",
		true:  ready,
	} {
		synctest.Test(t, func(t *testing.T) {
			var pumps sync.WaitGroup
			p := newPeer()
			conn := p.dial(&pumps)
			ctx, cancel := context.WithCancel(context.Background())
			server := &starttls.Server{Hostname: testHost, TLSAvailable: func() bool {
				cancel()
				synctest.Wait() // the interrupt has set its deadline
				return available
			}}
			p.out.Write([]byte("STARTTLS\r\n"))
			began := time.Now()
			_, err := server.Negotiate(ctx, conn, testID)
			took := time.Since(began)
			conn.Close()
			p.out.Close()
			pumps.Wait()
			if said := string(p.in.take()); !errors.Is(err, starttls.ErrShutdown) || took > 0 || said != greeting+want {
				t.Errorf("Negotiate returned %v after %v\nS: %q", err, took, said)
			}
		})
	}
}

// hooked is a connection that tells of each write.
type hooked struct {
	net.Conn
	wrote func(p []byte)
}

func (h hooked) Write(p []byte) (int, error) {
	n, err := h.Conn.Write(p)
	h.wrote(p)
	return n, err
}

// A context that ends while the client's last command goes to a backend still
// ends the session: the client has no reply to that command yet, and gets 421.
func TestShutdownWithinPlaintext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pumps sync.WaitGroup
		p := newPeer()
		ctx, cancel := context.WithCancel(context.Background())
		conn := hooked{p.dial(&pumps), func(p []byte) {
			if string(p) == "250 2.0.0 Ok\r\n" {
				cancel()
			}
		}}
		p.out.Write([]byte("NOOP\r\nMAIL FROM:<a@b>\r\n"))
		server := &starttls.Server{Hostname: testHost, Policy: starttls.Optional}
		plaintext, err := server.Negotiate(ctx, conn, testID)
		conn.Close()
		p.out.Close()
		pumps.Wait()
		said := string(p.in.take())
		if !errors.Is(err, starttls.ErrShutdown) || plaintext != nil || said != greeting+"250 2.0.0 Ok\r\n421 4.3.2 mx.example.com shutting down (s1)\r\n" {
			t.Errorf("Negotiate returned %v, %v\nS: %q", plaintext, err, said)
		}
	})
}

// A client that does not read costs one write timeout, not one for each reply.
func TestClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, conn := net.Pipe()
		defer client.Close()
		began := time.Now()
		_, err := (&starttls.Server{Hostname: testHost}).Negotiate(context.Background(), conn, testID)
		if took := time.Since(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != 30*time.Second {
			t.Errorf("Negotiate returned %v after %v", err, took)
		}
	})
}
