package starttls_test

import (
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// A session that is idle between messages holds the small buffer only.
func TestIdleSessionHoldsSmallBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, backend := newPeer(), newPeer()
		source := &countingReader{Reader: client.out}
		f := starttls.NewFilter(struct {
			io.Reader
			io.Writer
		}{source, client.in}, backend.other(), starttls.FilterConfig{})
		var both sync.WaitGroup
		both.Go(func() { f.CopyCommands() })
		both.Go(func() { f.CopyReplies() })
		say := func(p peer, text string) int {
			p.out.Write([]byte(text))
			synctest.Wait()
			return source.room
		}
		say(client, "DATA\r\n")
		say(backend, "354 go\r\n")
		if room := say(client, strings.Repeat("text\r\n", 10_000)); room < 16<<10 {
			t.Errorf("in a message, %d bytes are read at once", room)
		}
		if room := say(client, "\r\n.\r\n"); room > 4<<10 {
			t.Errorf("between messages, a buffer of %d bytes is held", room)
		}
		client.out.Close()
		backend.out.Close()
		both.Wait()
	})
}

// Drain may come at any moment. The client gets 421 once, behind whole
// replies, and no message is half done.
func TestDrainAtAnyMoment(t *testing.T) {
	const session = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\ntext\r\n.\r\nMAIL FROM:<a@b>\r\nRSET\r\nSTARTTLS\r\nNOOP\r\n"
	for at := range len(session) + 1 {
		synctest.Test(t, func(t *testing.T) {
			backend := newModelConn(&model{}, uint64(at))
			client := newPeer()
			f := starttls.NewFilter(client.other(), backend, starttls.FilterConfig{Hostname: testHost, ID: testID})
			var both sync.WaitGroup
			both.Go(func() {
				if err := f.CopyCommands(); err != nil && !errors.Is(err, starttls.ErrDrained) {
					t.Errorf("CopyCommands: %v", err)
				}
				backend.Close()
			})
			both.Go(func() {
				if err := f.CopyReplies(); err != nil && !errors.Is(err, starttls.ErrDrained) {
					t.Errorf("CopyReplies: %v", err)
				}
			})
			client.out.Write([]byte(session[:at]))
			if at%2 == 0 {
				synctest.Wait()
			}
			f.Drain()
			client.out.Write([]byte(session[at:]))
			synctest.Wait()
			said := string(client.in.take())
			if strings.Count(said, "421 ") != 1 || !strings.HasSuffix(said, "\r\n421 4.3.2 mx.example.com shutting down (s1)\r\n") &&
				said != "421 4.3.2 mx.example.com shutting down (s1)\r\n" || backend.model.state != "" {
				t.Errorf("drained at %q: backend in state %q\nS: %q", session[:at], backend.model.state, said)
			}
			client.out.Close()
			both.Wait()
		})
	}
}

var errBroken = errors.New("broken")

// broken is a connection that fails with every write, behind what can be read.
type broken struct{ io.Reader }

func (broken) Write([]byte) (int, error) { return 0, errBroken }

// The errors of the connections come through.
func TestFilterReturnsConnectionErrors(t *testing.T) {
	f := starttls.NewFilter(broken{strings.NewReader("NOOP\r\n")}, broken{iotest.ErrReader(errBroken)}, starttls.FilterConfig{})
	if err := f.CopyCommands(); !errors.Is(err, errBroken) {
		t.Errorf("CopyCommands returned %v", err)
	}
	if err := f.CopyReplies(); !errors.Is(err, errBroken) {
		t.Errorf("CopyReplies returned %v", err)
	}
}

// gate is a client that takes its first reply only when it is opened.
type gate struct {
	io.Reader
	opened  chan struct{}
	writes  atomic.Int32
	replies *stream
}

func (g *gate) Write(p []byte) (int, error) {
	if g.writes.Add(1) == 1 {
		<-g.opened
	}
	return g.replies.Write(p)
}

// A reply of the filter's own waits until those before it are with the client,
// and Drain waits for one that is on its way.
func TestRepliesKeepTheirOrder(t *testing.T) {
	const refusal, drained = "503 5.5.1 TLS is already active (s1)\r\n", "421 4.3.2 mx.example.com shutting down (s1)\r\n"
	for commands, want := range map[string]string{
		"NOOP\r\nSTARTTLS\r\n": "250 ok\r\n" + refusal + drained,
		"STARTTLS\r\n":         refusal + drained,
	} {
		synctest.Test(t, func(t *testing.T) {
			client, backend := newPeer(), newPeer()
			g := &gate{Reader: client.out, opened: make(chan struct{}), replies: client.in}
			f := starttls.NewFilter(g, backend.other(), starttls.FilterConfig{Hostname: testHost, ID: testID})
			var both sync.WaitGroup
			both.Go(func() { f.CopyCommands() })
			both.Go(func() { f.CopyReplies() })
			client.out.Write([]byte(commands))
			synctest.Wait()
			if len(backend.in.take()) > 0 {
				backend.out.Write([]byte("250 ok\r\n"))
				synctest.Wait()
			}
			if f.Drain() {
				t.Error("Drain returned true while a reply was on its way")
			}
			synctest.Wait()
			close(g.opened)
			synctest.Wait()
			client.out.Close()
			backend.out.Close()
			both.Wait()
			said := string(client.in.take())
			// Drained between the two replies, the session ends there.
			if said != want && said != strings.Replace(want, refusal, "", 1) {
				t.Errorf("C: %q\nS: %q", commands, said)
			}
		})
	}
}
