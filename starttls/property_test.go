package starttls_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// cutter is a stream of bytes that come in pieces of any size.
type cutter struct {
	random *rand.Rand
	rest   []byte
}

func (c *cutter) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := min(len(c.rest), len(p), 1+c.random.IntN(1<<c.random.IntN(13)))
	copy(p, c.rest[:n])
	c.rest = c.rest[n:]
	return n, nil
}

// modelConn is a connection to a model.
type modelConn struct {
	mu      sync.Mutex
	changed sync.Cond
	model   *model
	got     []byte
	replies cutter
	closed  bool
}

func newModelConn(m *model, seed uint64) *modelConn {
	c := &modelConn{model: m}
	c.changed.L = &c.mu
	c.replies.random = rand.New(rand.NewPCG(seed, 1))
	return c
}

func (c *modelConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, p...)
	c.replies.rest = append(c.replies.rest, c.model.feed(p)...)
	c.changed.Broadcast()
	return len(p), nil
}

func (c *modelConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.replies.rest) == 0 && !c.closed {
		c.changed.Wait()
	}
	return c.replies.Read(p)
}

func (c *modelConn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changed.Broadcast()
}

// kind is what a session is, besides its bytes. The zero value is under TLS.
type kind uint16

// firstKind is the lowest bit of a kind, clear of all traits.
const firstKind = 1 << 12

const (
	plainText kind = firstKind << iota
	withTrace
	saidHELO // before, in plain text
	saidNothing
)

// hello is what the client of a session in plain text said before.
func (k kind) hello() []byte {
	switch {
	case k&saidNothing != 0:
		return nil
	case k&saidHELO != 0:
		return []byte("HELO before.example\r\n")
	}
	return []byte("EHLO before.example\r\n")
}

type outcome struct {
	toBackend, toClient []byte
	unread              int // bytes of the client's
	messages            int
	commands, replies   error
	forged              []string
}

// relay runs the client's bytes through a filter, to a model.
func relay(client []byte, lenient traits, seed uint64, k kind) outcome {
	backend := newModelConn(&model{lenient: lenient, plain: k&plainText != 0}, seed)
	peer := newPeer()
	var out outcome
	config := starttls.FilterConfig{Hostname: testHost, ID: testID, Message: func() { out.messages++ }}
	if k&withTrace != 0 {
		config.Trace = testTrace("192.0.2.1")
	}
	if k&plainText != 0 {
		n := min(len(client), int(seed%100))
		config.Plaintext = &starttls.Plaintext{Hello: k.hello(), Pending: client[:n]}
		client = client[n:]
		if reply, err := config.Plaintext.Replay(backend); err != nil || !reply.Ready() {
			panic(fmt.Sprint("Replay: ", reply, err))
		}
		backend.got = nil
	}
	source := &cutter{rand.New(rand.NewPCG(seed, 2)), client}
	f := starttls.NewFilter(readWriter{source, peer.in}, backend, config)
	var both sync.WaitGroup
	both.Go(func() {
		out.commands = f.CopyCommands()
		backend.Close()
	})
	both.Go(func() { out.replies = f.CopyReplies() })
	both.Wait()
	out.toBackend, out.toClient, out.forged = backend.got, peer.in.take(), backend.model.forged
	out.unread = len(source.rest)
	return out
}

const traceDate = "Fri, 02 Jan 2026 03:04:05 -0100\r\n"

var traceHeader = regexp.MustCompile(`Received: from [^\r\n]*\r\n(?:\t[^\r\n]*\r\n)*?\t` + traceDate)

// withoutTraces takes the headers out that testTrace makes, and tells where
// they were, in what is left.
func withoutTraces(toBackend []byte) (rest []byte, at []int) {
	end := 0
	for _, found := range traceHeader.FindAllIndex(toBackend, -1) {
		rest = append(rest, toBackend[end:found[0]]...)
		at, end = append(at, len(rest)), found[1]
	}
	return append(rest, toBackend[end:]...), at
}

// checkRelay holds the properties of a filter against one session.
func checkRelay(t *testing.T, client []byte, lenient traits, seed uint64, k kind) {
	t.Helper()
	if bytes.Contains(client, []byte("Received: from ")) {
		return // or it would have to be told from ours
	}
	var got outcome
	synctest.Test(t, func(*testing.T) { got = relay(bytes.Clone(client), lenient, seed, k) }) // finds deadlocks
	var traces []int
	got.toBackend, traces = withoutTraces(got.toBackend)
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s\nclient, cut by %d, of kind %x, to a backend with traits %b:\n%s\nto the backend: %s\nto the client: %s",
			fmt.Sprintf(format, args...), seed, k, lenient, lines("C:", client), lines("B<", got.toBackend), lines("S:", got.toClient))
	}
	if len(got.forged) > 0 && lenient&unasked == 0 {
		fail("the backend got %q", got.forged)
	}
	if !isReduced(client, got.toBackend, k) {
		fail("the backend got other bytes than the client sent")
	}
	if lenient&^exact != 0 {
		return
	}
	want := &reference{model: &model{lenient: lenient, plain: k&plainText != 0}, client: client, kind: k}
	want.run()
	wantErr := want.err()
	if want.startTLS && errors.Is(got.commands, starttls.ErrInjection) && len(want.client) > 0 {
		// Whether bytes came in the flight of STARTTLS depends on the reads.
		wantErr = starttls.ErrInjection
		want.toClient = append(bytes.TrimSuffix(want.toClient, []byte(ready)), injection...)
	}
	switch {
	case !errors.Is(got.commands, wantErr):
		fail("CopyCommands returned %v, want %v", got.commands, wantErr)
	case got.replies != nil && !want.refused && wantErr != starttls.ErrInjection:
		fail("CopyReplies returned %v", got.replies)
	case got.messages != want.messages:
		fail("%d messages, want %d", got.messages, want.messages)
	case wantErr == starttls.ErrSTARTTLS && got.unread != len(want.client):
		fail("%d bytes are left for TLS, want %d", got.unread, len(want.client))
	case !slices.Equal(traces, want.traces):
		fail("trace headers at %d, want %d", traces, want.traces)
	case want.cut:
		if !bytes.HasPrefix(want.toBackend, got.toBackend) {
			fail("the backend got what is no part of %s", lines("B<", want.toBackend))
		}
	case !bytes.Equal(got.toBackend, want.toBackend):
		fail("the backend should get %s", lines("B<", want.toBackend))
	case !bytes.Equal(got.toClient, want.toClient):
		fail("the client should get %s", lines("S:", want.toClient))
	}
}

// isReduced tells whether got is what was sent, up to some byte, without some
// lines that the filter refuses. A line begins anywhere: behind a chunk too.
func isReduced(sent, got []byte, k kind) bool {
	if bytes.HasPrefix(sent, got) {
		return true
	}
	gaps := map[int][]int{0: {0}} // by place in sent: how many bytes before it may be left out
	for i := range sent {
		for _, gap := range gaps[i] {
			if i-gap == len(got) {
				return true
			}
			if got[i-gap] == sent[i] && !slices.Contains(gaps[i+1], gap) {
				gaps[i+1] = append(gaps[i+1], gap)
			}
			if line := trimFiller(sent[i:]); refusalOf(line[:min(64, len(line))], k) != "" {
				n := bytes.IndexByte(sent[i:], '\n') + 1
				gaps[i+n] = append(gaps[i+n], gap+n)
			}
		}
		delete(gaps, i)
	}
	return slices.ContainsFunc(gaps[len(sent)], func(gap int) bool { return len(sent)-gap == len(got) })
}

func lines(kind string, p []byte) string {
	j := journal{}
	j.note(kind, string(p))
	return "\n" + strings.Join(j.lines, "\n")
}

// pieces are what random dialogues are made of.
var pieces = []string{
	"EHLO client.example\r\n", "ehlo x\r\n", "HELO x\r\n", "MAIL FROM:<a@b>\r\n", "MAIL FROM:<a@b>\r\n", "RCPT TO:<c@d>\r\n", "DATA\r\n",
	"DATA\r\n", "DATA now\r\n", ".\r\n", ".\r\n", "..\r\n", "\r\n", "text of a message\r\n", "RSET\r\n", "NOOP\r\n", "HELP\r\n", "QUIT\r\n",
	"AUTH LOGIN\r\n", "AUTH PLAIN AGEAYg==\r\n", "YWJj\r\n", "BDAT 5\r\n", "BDAT 12 LAST\r\n", "BDAT 0 LAST\r\n", "BDAT 40\r\n",
	"STARTTLS\r\n", "starttls\r\n", "STARTTLS foo\r\n", "XCLIENT ADDR=127.0.0.1\r\n", "xForward NAME=x\r\n", "\t XCLIENT ADDR=::1\r\n",
	"XCLIENTS\r\n", "STARTTLSX\r\n", "hello", " ", "\x00", "\xff\xc2\xa0", "XCL\u0131ENT A=1\r\n",
}

// oddPieces are what makes a session a plain pipe.
var oddPieces = []string{
	"\n", "\r", "NOOP\n", "NOOP\r", "\r\n.\n", "\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r\n\x00.\r\n", "\n.\x00\n", "XCLIENT ADDR=127.0.0.1\n",
	"PROXY TCP4 ::1\r\n", "PROXY TCP4 ::1\n", "proxy", "Proxy-X: y\r\n", "XCLIENT", "STARTTLS\n", "STARTTLS ", "BDAT 4294967297\r\n", "BDAT 010\r\n", "BDAT  5\r\n", "BDAT x\r\n", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n",
}

func dialogue(random *rand.Rand) []byte {
	var b []byte
	oddness := []float64{0, 0, 0.02, 0.2}[random.IntN(4)]
	for range random.IntN(30) {
		if random.Float64() < oddness {
			b = append(b, oddPieces[random.IntN(len(oddPieces))]...)
		} else {
			b = append(b, pieces[random.IntN(len(pieces))]...)
		}
		if random.IntN(300) == 0 {
			b = append(b, bytes.Repeat([]byte("x"), random.IntN(40000))...)
		}
	}
	return b
}

// TestR58_FilterIsAPipe compares random dialogues, cut anywhere in both
// directions, with what the reference makes of them.
func TestR58_FilterIsAPipe(t *testing.T) {
	rounds := 1500
	if testing.Short() {
		rounds = 300
	}
	for seed := range uint64(rounds) {
		random := rand.New(rand.NewPCG(seed, 0))
		lenient := []traits{strict, strict, exact & traits(random.Uint32()), traits(random.Uint32()) & (1<<11 - 1)}[random.IntN(4)]
		k := []kind{0, plainText, withTrace, kind(random.Uint32()) &^ (firstKind - 1)}[random.IntN(4)]
		checkRelay(t, dialogue(random), lenient, seed, k)
	}
}
