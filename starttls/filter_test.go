package starttls_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

func TestR9_NoSecondSTARTTLS(t *testing.T) {
	play(t, "relay_starttls.smtp")
	play(t, "relay_starttls_in_group.smtp")
	play(t, "relay_pipe_starttls.smtp")
}

func TestR10_NoSTARTTLSInEHLO(t *testing.T) {
	play(t, "relay_ehlo_hidden_keywords.smtp")
	play(t, "relay_ehlo_last_line_hidden.smtp")
	play(t, "relay_ehlo_all_hidden.smtp")
	play(t, "relay_ehlo_pipelined.smtp")
}

func TestR14_NoForgedIdentity(t *testing.T) {
	for _, name := range []string{
		"", "_behind_bare_lf", "_behind_bare_cr", "_in_pieces", "_smuggled", "_behind_data", "_behind_chunk", "_behind_lost_chunk", "_long_line",
	} {
		play(t, "relay_xclient"+name+".smtp")
	}
	play(t, "relay_bdat_after_helo.smtp")
	play(t, "relay_bdat_helo_in_group.smtp")
	play(t, "relay_bdat_odd_size.smtp")
}

func TestR20_HTTP(t *testing.T) {
	play(t, "plain_http.smtp")
	play(t, "relay_http.smtp")
	for _, method := range []string{"GET", "post", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "PRI", "TRACE"} {
		request := method + " / HTTP/1.1\r\n\r\nEHLO x\r\n"
		said, _, err := negotiate(t, request)
		if !errors.Is(err, starttls.ErrHTTP) || said != greeting+"554 5.5.1 This is an SMTP server (s1)\r\n" {
			t.Errorf("Negotiate returned %v\nC: %q\nS: %q", err, request, said)
		}
		var out outcome
		synctest.Test(t, func(*testing.T) { out = relay([]byte(request), strict, 0, 0) })
		if !errors.Is(out.commands, starttls.ErrRefused) || len(out.toBackend) > 0 || string(out.toClient) != "554 5.5.1 This is an SMTP server (s1)\r\n" {
			t.Errorf("CopyCommands returned %v\nC: %q\nS: %q\nB< %q", out.commands, request, out.toClient, out.toBackend)
		}
	}
}

// randomBytes are bytes of which some look like SMTP, but no line like a
// refused command.
func randomBytes(seed uint64, n int) []byte {
	random := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
		if random.IntN(8) == 0 {
			b[i] = "\r\n.\x00 250-354"[random.IntN(12)]
		}
	}
	return b
}

func TestR56_RandomBytesBothWays(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			commands, replies := randomBytes(seed, 50_000), randomBytes(seed+1000, 50_000)
			client, backend := newPeer(), newPeer()
			f := starttls.NewFilter(struct {
				io.Reader
				io.Writer
			}{&cutter{rand.New(rand.NewPCG(seed, 3)), commands}, client.in}, struct {
				io.Reader
				io.Writer
			}{&cutter{rand.New(rand.NewPCG(seed, 4)), replies}, backend.in}, starttls.FilterConfig{Hostname: testHost, ID: testID})
			var both sync.WaitGroup
			both.Go(func() {
				if err := f.CopyCommands(); err != nil {
					t.Errorf("CopyCommands: %v", err)
				}
			})
			both.Go(func() {
				if err := f.CopyReplies(); err != nil {
					t.Errorf("CopyReplies: %v", err)
				}
			})
			both.Wait()
			if !bytes.Equal(client.in.take(), randomBytes(seed+1000, 50_000)) {
				t.Errorf("seed %d: the client got other bytes than the backend sent", seed)
			}
			if got := backend.in.take(); !bytes.HasPrefix(randomBytes(seed, 50_000), got) || len(got) < 50_000-8 {
				t.Errorf("seed %d: the backend got other bytes than the client sent", seed)
			}
		})
	}
}

// Every ending of a message that some take for one, cut at every place, comes
// to the backend as it would without the filter.
func TestR57_SmugglingIsNotHelped(t *testing.T) {
	play(t, "relay_smuggling_unchanged.smtp")
	const begin, after = "MAIL FROM:<a@b>\r\nDATA\r\ntext", "MAIL FROM:<c@d>\r\nDATA\r\nsmuggled\r\n.\r\n"
	for _, end := range []string{"\n.\n", "\r.\r", "\n.\r\n", "\r\n.\r", "\r\n\x00.\r\n", "\r\n.\n", "\r\n.\x00\r\n", "\r\r\n.\r\n", "\n\n.\r\n"} {
		client := []byte(begin + end + after)
		for seed := range uint64(50) {
			var out outcome
			synctest.Test(t, func(*testing.T) { out = relay(bytes.Clone(client), strict, seed, 0) })
			if !bytes.Equal(out.toBackend, client) {
				t.Errorf("C: %q\nB< %q", client, out.toBackend)
			}
		}
	}
}

func TestR59_BodyIsNoCommand(t *testing.T) {
	play(t, "relay_message.smtp")
	play(t, "relay_bdat.smtp")
	play(t, "relay_auth.smtp")
}

// A client's stream that ends anywhere leaves the backend with what was sent,
// less a command that is not whole.
func TestR60_NothingIsCompleted(t *testing.T) {
	play(t, "relay_truncated_command.smtp")
	play(t, "relay_truncated_message.smtp")
	play(t, "relay_truncated_chunk.smtp")
	const whole = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\ntext\r\n.\r\nMAIL FROM:<a@b>\r\nBDAT 5 LAST\r\n12345"
	for n := range len(whole) {
		cut := []byte(whole[:n])
		var out outcome
		synctest.Test(t, func(*testing.T) { out = relay(bytes.Clone(cut), strict, uint64(n), 0) })
		messages := 0
		if n >= strings.Index(whole, ".\r\n")+len(".\r\n") {
			messages = 1
		}
		if !bytes.HasPrefix(cut, out.toBackend) || out.messages != messages {
			t.Errorf("%d messages, CopyCommands returned %v\nC: %q\nB< %q", out.messages, out.commands, cut, out.toBackend)
		}
		if partial := cut[len(out.toBackend):]; bytes.Contains(partial, []byte("\n")) || len(partial) > 0 && !errors.Is(out.commands, starttls.ErrTruncated) {
			t.Errorf("%q is missing, CopyCommands returned %v", partial, out.commands)
		}
	}
}

func TestR61_BackendEndsWithinAReply(t *testing.T) {
	play(t, "relay_backend_gone.smtp")
	play(t, "relay_backend_gone_before_reply.smtp")
	play(t, "relay_ehlo_cut_off.smtp")
}

func TestR62_HalfClose(t *testing.T) { play(t, "relay_half_close.smtp") }

// countingReader tells how much was read, and how much was asked for last.
type countingReader struct {
	io.Reader
	read, room int
}

func (r *countingReader) Read(p []byte) (int, error) {
	r.room = len(p)
	n, err := r.Reader.Read(p)
	r.read += n
	return n, err
}

// A backend that does not read makes the filter stop reading.
func TestR64_SlowBackendBoundsMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, backend := net.Pipe()
		defer client.Close()
		source := &countingReader{Reader: bytes.NewReader(bytes.Repeat([]byte("NOOP\r\n"), 1<<18))}
		f := starttls.NewFilter(struct {
			io.Reader
			io.Writer
		}{source, io.Discard}, backend, starttls.FilterConfig{})
		var running sync.WaitGroup
		running.Go(func() { f.CopyCommands() })
		synctest.Wait()
		if source.read > 20<<10 {
			t.Errorf("%d bytes were read of the client", source.read)
		}
		backend.Close()
		running.Wait()
	})
}

func TestR67_KeywordsThatStay(t *testing.T) { play(t, "relay_ehlo_hidden_keywords.smtp") }

func TestR69_ChannelBinding(t *testing.T) { play(t, "relay_ehlo_scram_plus.smtp") }

func TestR70_LongReplies(t *testing.T) {
	play(t, "relay_ehlo_100_lines.smtp")
	play(t, "relay_ehlo_too_long.smtp")
	play(t, "relay_ehlo_cut_anywhere.smtp")
	play(t, "relay_ehlo_bare_lf_reply.smtp")
	const reply = "250-backend\r\n250-STARTTLS\r\n250-SIZE\r\n250 XCLIENT\r\n"
	cutAnywhere(t, starttls.FilterConfig{}, "EHLO x\r\n", reply, "250-backend\r\n250 SIZE\r\n")
}

// cutAnywhere has the backend's reply to an EHLO come in two parts, cut at every
// place. What the client says is that EHLO, unless the config has it.
func cutAnywhere(t *testing.T, config starttls.FilterConfig, says, reply, want string) {
	t.Helper()
	for at := range len(reply) {
		synctest.Test(t, func(t *testing.T) {
			client, backend := newPeer(), newPeer()
			f := starttls.NewFilter(client.other(), backend.other(), config)
			var both sync.WaitGroup
			both.Go(func() { f.CopyCommands() })
			both.Go(func() { f.CopyReplies() })
			client.out.Write([]byte(says))
			for _, part := range []string{reply[:at], reply[at:]} {
				synctest.Wait()
				backend.out.Write([]byte(part))
			}
			synctest.Wait()
			if got := string(client.in.take()); got != want {
				t.Errorf("cut at %d: S: %q", at, got)
			}
			client.out.Close()
			backend.out.Close()
			both.Wait()
		})
	}
}

func TestR71_LongAuthLines(t *testing.T) { play(t, "relay_auth_12288.smtp") }
