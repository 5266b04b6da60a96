package starttls_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// A client on port 25 that knows no TLS can send mail, without a password.
func TestR12_PlainTextIsUsable(t *testing.T) {
	for _, name := range []string{"mail", "group", "cut_lines", "without_ehlo", "last_hello", "refused", "keywords_hidden", "other_command", "bare_lf"} {
		play(t, "plain_optional_"+name+".smtp")
	}
	for _, name := range []string{"message", "without_hello", "hello_refused", "hello_421", "ehlo_keywords", "auth", "refused", "bdat"} {
		play(t, "relay_plain_"+name+".smtp")
	}
}

func TestR6_NoAuthInPlainText(t *testing.T) {
	play(t, "plain_optional_refused.smtp")
	for _, name := range []string{"auth", "pipe_auth", "pipe_auth_in_pieces", "pipe_auth_behind_chunk", "pipe_text"} {
		play(t, "relay_plain_"+name+".smtp")
	}
}

// Every way in which bytes may come behind a STARTTLS in plain text, within the
// group that ended the plain phase and within the relay.
func TestR1_InjectionInPlainText(t *testing.T) {
	play(t, "plain_optional_injection.smtp")
	play(t, "relay_plain_injection.smtp")
	play(t, "relay_plain_injection_in_pending.smtp")
	for _, tail := range []string{"EHLO x\r\n", "E", "\n", "\r\n", strings.Repeat("NOOP\r\n", 20_000), "\x16\x03\x01\x00\x05\x01", "STARTTLS\r\n"} {
		for _, segments := range [][]string{
			{"MAIL FROM:<a@b>\r\nSTARTTLS\r\n" + tail},
			{"MAIL FROM:<a@b>\r\nSTAR", "TTLS\r\n" + tail},
			{"MAIL FROM:<a@b>\r\n", "STARTTLS\r\n" + tail},
			{"MAIL FROM:<a@b>\r\n", "STARTTLS\r", "\n" + tail},
			{"MAIL FROM:<a@b>\r\n", "STARTTLS\n" + tail[:1], tail[1:]},
		} {
			session := playPlaintext(t, segments...)
			if !errors.Is(session.err, starttls.ErrInjection) || session.said != greeting+"250 2.0.0 ok\r\n"+injection || session.heard != "MAIL FROM:<a@b>\r\n" {
				t.Errorf("%v\nC: %.80q\nS: %q\nB< %q", session.err, segments, session.said, session.heard)
			}
		}
	}
}

// What comes behind the 220, in another segment, is left for TLS.
func TestR2_BytesBehind220InPlainTextAreForTLS(t *testing.T) {
	for _, tail := range []string{"EHLO x\r\n", "\n", "\x16\x03\x01\x00\x02\x01\x00", strings.Repeat("NOOP\r\n", 20_000)} {
		session := playPlaintext(t, "MAIL FROM:<a@b>\r\nSTARTTLS\r\n", tail)
		if !errors.Is(session.err, starttls.ErrSTARTTLS) || session.said != greeting+"250 2.0.0 ok\r\n"+ready || session.left != tail {
			t.Errorf("%v\nC: %.60q\nS: %q\nleft for TLS: %.60q", session.err, tail, session.said, session.left)
		}
	}
}

func TestR3_220IsTheLastInPlainText(t *testing.T) {
	for _, name := range []string{"", "_in_group", "_in_transaction", "_after_message"} {
		play(t, "relay_plain_starttls"+name+".smtp")
	}
}

// What was said in plain text comes to the first backend connection, and
// nothing of it to the second.
func TestR5_StateInPlainTextIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running sync.WaitGroup
		client, plain, secure := newPeer(), newModelConn(&model{plain: true}, 1), newModelConn(&model{}, 2)
		conn := client.dial(&running)
		running.Go(func() {
			defer conn.Close()
			if err := serve(conn, plain); !errors.Is(err, starttls.ErrSTARTTLS) {
				t.Errorf("in plain text: %v", err)
				return
			}
			f := starttls.NewFilter(conn, secure, starttls.FilterConfig{Hostname: testHost, ID: testID})
			running.Go(func() { f.CopyReplies() })
			if err := f.CopyCommands(); err != nil {
				t.Errorf("under TLS: %v", err)
			}
			secure.Close()
		})
		for _, segment := range []string{"EHLO attacker\r\nMAIL FROM:<a@b>\r\nSTARTTLS\r\n", "DATA\r\n"} {
			synctest.Wait()
			client.out.Write([]byte(segment))
		}
		synctest.Wait()
		client.out.Close()
		running.Wait()
		if said := string(client.in.take()); string(plain.got) != "EHLO attacker\r\nMAIL FROM:<a@b>\r\n" || string(secure.got) != "DATA\r\n" || !strings.HasSuffix(said, ready+"503-5.5.1 no MAIL\r\n503 5.5.1 sorry\r\n") {
			t.Errorf("B< %q, then %q\nS: %q", plain.got, secure.got, said)
		}
	})
}

func TestR7_RepliesInPlainText(t *testing.T) {
	play(t, "plain_optional_starttls_refused.smtp")
	play(t, "plain_unknown_command.smtp")
	play(t, "relay_plain_starttls_argument.smtp")
	play(t, "relay_plain_tls_unavailable.smtp")
}

func TestR9_NoSTARTTLSToTheBackend(t *testing.T) { play(t, "relay_plain_pipe_starttls.smtp") }

func TestR20_HTTPInPlainText(t *testing.T) {
	play(t, "plain_optional_http.smtp")
	play(t, "relay_plain_refused.smtp")
}

func TestR60_NothingIsCompletedInPlainText(t *testing.T) { play(t, "relay_plain_truncated.smtp") }

func TestR62_HalfCloseInPlainText(t *testing.T) { play(t, "relay_plain_half_close.smtp") }

func TestR65_STARTTLSInTheBackendsReply(t *testing.T) {
	for _, name := range []string{"keywords", "one_line", "other"} {
		play(t, "relay_plain_ehlo_"+name+".smtp")
	}
	const reply = "250-backend\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250 XCLIENT\r\n"
	config := starttls.FilterConfig{Plaintext: &starttls.Plaintext{Pending: []byte("EHLO x\r\n")}}
	cutAnywhere(t, config, "", reply, "250-backend\r\n250 STARTTLS\r\n")
}

func TestR66_PipelinedOptional(t *testing.T) {
	const group = "EHLO x\r\nNOOP\r\nAUTH PLAIN\r\nRSET\r\nMAIL FROM:<a@b>\r\nNOOP\r\nAUTH\r\nRCPT TO:<c@d>\r\n"
	const said = greeting + "250-mx.example.com\r\n250 STARTTLS\r\n250 2.0.0 Ok\r\n530 5.7.0 Must issue a STARTTLS command first (s1)\r\n250 2.0.0 Ok\r\n" +
		"250 2.0.0 ok\r\n250 2.0.0 ok\r\n530 5.7.0 Must issue a STARTTLS command first (s1)\r\n250 2.0.0 ok\r\n"
	for at := range len(group) {
		session := playPlaintext(t, group[:at], group[at:])
		if session.err != nil || session.said != said || session.heard != "EHLO x\r\nMAIL FROM:<a@b>\r\nNOOP\r\nRCPT TO:<c@d>\r\n" {
			t.Errorf("cut at %d: %v\nS: %q\nB< %q", at, session.err, session.said, session.heard)
		}
	}
}

func TestR68_REQUIRETLSOnlyUnderTLS(t *testing.T) {
	play(t, "relay_requiretls.smtp")
	play(t, "plain_optional_keywords_hidden.smtp")
	play(t, "relay_plain_ehlo_keywords.smtp")
}

func TestR72_OptionalLimits(t *testing.T) {
	for _, name := range []string{"too_many_errors", "too_many_commands", "syntax"} {
		play(t, "plain_optional_"+name+".smtp")
	}
}

func TestR82_DrainInPlainText(t *testing.T) {
	play(t, "plain_optional_shutdown.smtp")
	for _, name := range []string{"idle", "transaction", "refused"} {
		play(t, "relay_plain_drain_"+name+".smtp")
	}
}

// plainSession is what came of a session where TLS is optional.
type plainSession struct {
	said  string // to the client
	heard string // by the backend
	left  string // on the connection
	err   error  // of Negotiate, Replay or CopyCommands
}

// playPlaintext carries a client from the greeting to the end, as a caller
// does, with a model for a backend.
func playPlaintext(t *testing.T, segments ...string) (s plainSession) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var running sync.WaitGroup
		client := newPeer()
		backend := newModelConn(&model{plain: true}, 1)
		conn := client.dial(&running)
		running.Go(func() {
			defer conn.Close()
			s.err = serve(conn, backend)
			rest, _ := io.ReadAll(conn)
			s.left = string(rest)
		})
		for _, segment := range segments {
			synctest.Wait()
			client.out.Write([]byte(segment))
		}
		synctest.Wait()
		client.out.Close()
		running.Wait()
		s.said, s.heard = string(client.in.take()), string(backend.got)
	})
	return s
}

func serve(conn net.Conn, backend *modelConn) error {
	server := &starttls.Server{Hostname: testHost, Policy: starttls.Optional}
	plaintext, err := server.Negotiate(context.Background(), conn, testID)
	if err != nil {
		return err
	}
	if plaintext == nil {
		return errors.New("TLS begins")
	}
	if reply, err := plaintext.Replay(backend); err != nil || !reply.Ready() {
		return fmt.Errorf("%q: %w", reply.Text, err)
	}
	f := starttls.NewFilter(conn, backend, starttls.FilterConfig{Hostname: testHost, ID: testID, Plaintext: plaintext})
	var replies sync.WaitGroup
	defer replies.Wait()
	defer backend.Close()
	replies.Go(func() { f.CopyReplies() })
	return f.CopyCommands()
}

// A 220 that cannot be written is followed by no handshake.
func TestSTARTTLSThatCannotBeAnswered(t *testing.T) {
	f := starttls.NewFilter(broken{strings.NewReader("STARTTLS\r\n")}, readWriter{strings.NewReader(""), io.Discard},
		starttls.FilterConfig{Plaintext: &starttls.Plaintext{}})
	if err := f.CopyCommands(); !errors.Is(err, errBroken) {
		t.Errorf("CopyCommands returned %v", err)
	}
}

// A backend that cannot be written to gets no second try.
func TestReplayReturnsConnectionErrors(t *testing.T) {
	p := &starttls.Plaintext{Hello: []byte("EHLO x\r\n")}
	if _, err := p.Replay(broken{new(bytes.Reader)}); !errors.Is(err, errBroken) {
		t.Errorf("Replay returned %v", err)
	}
}

func TestPolicyString(t *testing.T) {
	for policy, want := range map[starttls.Policy]string{starttls.Required: "required", starttls.Optional: "optional", 7: "starttls.Policy(7)"} {
		if got := policy.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
