package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

var everyFault = flag.Bool("every-fault", false, "do each fault at each byte of TLS too, which takes minutes")

// sampled is how many bytes it is from one fault to the next in the records of
// TLS, where those within a record do the same.
const sampled = 17

// two are the messages of each session: one comes with DATA, with a line that
// is one dot more for the way, and one in two chunks with BDAT.
var two = []string{"Subject: 1\r\n\r\n..\r\n", "Subject: 2\r\n\r\ntext\r\n"}

// exchange is what a client sends at once, and the codes of the replies that it
// waits for then. The last one may be that to the end of a message.
type exchange struct {
	send    string
	codes   []string
	message int // which message the last code is for, from 1; 0 for none
}

// steps are a session, one command at a time or as much at once as RFC 2920
// and RFC 3030 allow.
func steps(pipelined bool) []exchange {
	const mail, rcpt = "MAIL FROM:<a@client.example>\r\n", "RCPT TO:<b@backend.example>\r\n"
	data := two[0] + ".\r\n"
	first, last := "BDAT 14\r\n"+two[1][:14], fmt.Sprintf("BDAT %d LAST\r\n%s", len(two[1])-14, two[1][14:])
	if pipelined {
		return []exchange{
			{mail + rcpt + "DATA\r\n", []string{"250", "250", "354"}, 0},
			{data + mail + rcpt + first + last + "QUIT\r\n", []string{"250"}, 1},
			{"", []string{"250", "250", "250", "250"}, 2},
			{"", []string{"221"}, 0},
		}
	}
	return []exchange{
		{mail, []string{"250"}, 0}, {rcpt, []string{"250"}, 0}, {"DATA\r\n", []string{"354"}, 0}, {data, []string{"250"}, 1},
		{mail, []string{"250"}, 0}, {rcpt, []string{"250"}, 0}, {first, []string{"250"}, 0}, {last, []string{"250"}, 2},
		{"QUIT\r\n", []string{"221"}, 0},
	}
}

// store is a backend that keeps what it took before it says so.
type store struct {
	mu    sync.Mutex
	taken []string
}

func (s *store) take(p *peer, message string) {
	s.mu.Lock()
	s.taken = append(s.taken, message)
	s.mu.Unlock()
	p.send("250 2.0.0 queued")
}

// serve is a script.
func (s *store) serve(p *peer) {
	p.send("220 backend.example ESMTP")
	var chunks strings.Builder
	for {
		line := p.line()
		words := strings.Fields(line)
		if !strings.HasSuffix(line, "\r\n") || len(words) == 0 {
			return
		}
		switch words[0] {
		case "EHLO":
			p.send("250-backend.example", "250-PIPELINING", "250-CHUNKING", "250 STARTTLS")
		case "DATA":
			p.send("354 go ahead")
			var message strings.Builder
			for line = p.line(); line != ".\r\n"; line = p.line() {
				if line == "" {
					return
				}
				message.WriteString(line)
			}
			s.take(p, message.String())
		case "BDAT":
			size, err := strconv.Atoi(words[1])
			if err != nil {
				return
			}
			if _, err := io.CopyN(&chunks, p.r, int64(size)); err != nil {
				return
			}
			if len(words) == 2 {
				p.send("250 2.0.0 go on")
				continue
			}
			s.take(p, chunks.String())
			chunks.Reset()
		case "QUIT":
			p.send("221 2.0.0 bye")
			return
		default:
			p.send("250 2.1.0 ok")
		}
	}
}

// errFIN is the end of a connection under TLS without close_notify, for which
// crypto/tls has the same io.EOF.
var errFIN = errors.New("FIN without close_notify")

// finConn tells it.
type finConn struct{ net.Conn }

func (c finConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF {
		err = errFIN
	}
	return n, err
}

// sender is a client that is told how each of its messages fared, or learns
// that it was not.
type sender struct {
	conn    net.Conn
	r       *bufio.Reader
	replies strings.Builder // all
	acked   []string        // the messages that got 250
	told    string          // the code that came in place of a better one
	end     error           // how the connection ended; io.EOF in an orderly way
}

// run is the whole session. It has no deadline: in a bubble, what hangs is a
// failed test.
func (s *sender) run(mode proxy.Mode, plain, pipelined bool) {
	s.r = bufio.NewReader(s.conn)
	ehlo := exchange{"EHLO client.example\r\n", []string{"250"}, 0}
	greeting := exchange{"", []string{"220"}, 0}
	if mode == proxy.ModeSTARTTLS && !s.all(greeting, ehlo) {
		return
	}
	if !plain {
		if mode == proxy.ModeSTARTTLS && !s.all(exchange{"STARTTLS\r\n", []string{"220"}, 0}) {
			return
		}
		config := &tls.Config{ServerName: "a.example", InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.CurveP256}} // what costs least
		secured := tls.Client(finConn{s.conn}, config)
		if s.end = secured.Handshake(); s.end != nil {
			return
		}
		s.conn, s.r = secured, bufio.NewReader(secured)
		if mode == proxy.ModeImplicitTLS && !s.all(greeting) || !s.all(ehlo) {
			return
		}
	}
	if s.all(steps(pipelined)...) {
		s.rest()
	}
}

// all reports whether each exchange went as it should.
func (s *sender) all(exchanges ...exchange) bool {
	for _, e := range exchanges {
		_, _ = io.WriteString(s.conn, e.send) // what the other side said before it left is still there to read
		for i, code := range e.codes {
			got := s.reply()
			if s.end != nil {
				return false
			}
			if got != code {
				s.told = got
				s.rest()
				return false
			}
			if i == len(e.codes)-1 && e.message > 0 {
				s.acked = append(s.acked, two[e.message-1])
			}
		}
	}
	return true
}

// reply reads a whole reply and returns its code.
func (s *sender) reply() string {
	for {
		line, err := s.r.ReadString('\n')
		s.replies.WriteString(line)
		if err != nil {
			s.end = err
			return ""
		}
		if len(line) < 4 || line[3] != '-' {
			return line[:min(3, len(line))]
		}
	}
}

func (s *sender) rest() {
	rest, err := io.ReadAll(s.r)
	s.replies.Write(rest)
	if s.end = err; err == nil {
		s.end = io.EOF
	}
}

// faultScene is a listener and a shape of sessions, with one kind of fault on
// one of the two connections.
type faultScene struct {
	name      string
	kind      faultKind
	mode      proxy.Mode
	plain     bool // no TLS
	pipelined bool
	toClient  bool // the faults are between client and proxy
	every     int  // so many bytes
}

// outcome is all that is seen of a session.
type outcome struct {
	*sender
	taken []string       // by the backend
	line  map[string]any // of the log
	front *faultyLine    // to the client
	back  *faultyLine    // to the backend; nil if that was not reached
}

// toBackend is what the backend got behind the PROXY header, which differs.
func (o *outcome) toBackend() []byte {
	if o.back == nil || o.back.passed[0].Len() < 16 {
		return nil
	}
	up := o.back.passed[0].Bytes()
	return up[16+int(up[14])<<8+int(up[15]):]
}

// said is what the client got, but for the session's id.
func (o *outcome) said() string {
	return strings.ReplaceAll(o.replies.String(), o.line["id"].(string), "ID")
}

// faulty runs one session to the end of everything.
func (b *bubble) faulty(scene faultScene, f fault) *outcome {
	o := &outcome{sender: new(sender)}
	kept := new(store)
	backend := &fakeBackend{t: b.t, script: func(p *peer) { p.patience = aDay; kept.serve(p) }}
	forFront, forBack := fault{kind: noFault}, f
	if scene.toClient {
		forFront, forBack = f, forFront
	}
	var theirs *memoryConn // the proxy's end of the backend's connection
	line, clientEnd, proxyEnd := newFaultyLine(forFront, 465)
	o.front, o.conn = line, clientEnd
	b.Begin(proxyEnd, func(context.Context) (net.Conn, error) {
		var inner *memoryConn
		o.back, theirs, inner = newFaultyLine(forBack, 25)
		backend.begin(inner)
		return theirs, nil
	})
	o.run(scene.mode, scene.plain, scene.pipelined)
	clientEnd.Close()
	o.line = <-b.log.sessions
	o.front.running.Wait()
	if o.back != nil {
		o.back.running.Wait()
	}
	backend.running.Wait()
	synctest.Wait() // for the metrics of the session
	if !proxyEnd.closed.Load() || theirs != nil && !theirs.closed.Load() {
		b.t.Errorf("%+v: the proxy did not close its connections", f)
	}
	o.taken = kept.taken
	return o
}

// where is the line that has the scene's faults.
func (o *outcome) where(scene faultScene) *faultyLine {
	if scene.toClient {
		return o.front
	}
	return o.back
}

// judge finds what may not be, whatever the fault.
func (o *outcome) judge(scene faultScene, f fault, clean *outcome) (faults []string) {
	wrong := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if len(o.taken) > len(two) || !slices.Equal(o.taken, two[:len(o.taken)]) {
		wrong("the backend took %q: want each message once and whole", o.taken)
	}
	if len(o.acked) > len(o.taken) || !slices.Equal(o.acked, o.taken[:len(o.acked)]) {
		wrong("the client got 250 for %q, the backend took %q", o.acked, o.taken)
	}
	if !o.where(scene).struck && f.kind != noFault && scene.every == 1 && (scene.plain || !scene.toClient) {
		wrong("the fault did not happen") // under TLS, a signature may be a byte shorter
	}
	result, reason := o.line["outcome"].(string), o.line["error"]
	if f.kind.harmless() {
		if clean != nil && (o.said() != clean.said() || !bytes.Equal(o.toBackend(), clean.toBackend())) {
			wrong("bytes differ: the client got\n%q, the backend\n%q", o.said(), o.toBackend())
		}
		if len(o.acked) < len(two) || o.end != io.EOF || result != "ok" {
			wrong("nothing is lost, and yet the client got %q and %v", o.acked, o.end)
		}
		return faults
	}
	if scene.toClient {
		if slices.Contains([]string{"panic", "backend_error", "backend_unavailable", "backend_refused"}, result) {
			wrong("the outcome blames the backend")
		}
		return faults
	}
	if o.end != io.EOF {
		wrong("the client's connection ended with %v, want close_notify", o.end)
	}
	if o.told != "" && o.told != "421" {
		wrong("the client was told %q", o.told)
	}
	if n := o.line["messages"].(float64); int(n) != len(o.acked) {
		wrong("the log has %v messages, the client got 250 for %d", n, len(o.acked))
	}
	failed := result == "backend_error" || result == "backend_unavailable" || result == "idle_timeout"
	if failed != (reason != nil) || !failed && result != "ok" {
		wrong("the outcome does not tell of the backend's failure")
	}
	for _, open := range []string{"250 2.1.0 ok\r\n", "250 2.0.0 go on\r\n", "354 go ahead\r\n"} {
		if !failed && strings.HasSuffix(o.replies.String(), open) {
			wrong("the backend left within a transaction, and the outcome does not tell")
		}
	}
	return faults
}

// TestFaultsAtEveryByte delays, cuts, resets, trickles and stalls the
// connection to the backend, and that to the client, at each byte of a session
// in turn. No message is lost that the client got 250 for, none is taken twice
// or in part, and the client is told in any case.
func TestFaultsAtEveryByte(t *testing.T) {
	var sessions sync.Map // by scene
	for _, scene := range faultScenes() {
		t.Run(scene.name, func(t *testing.T) {
			t.Parallel()
			sessions.Store(scene, scene.run(t))
		})
	}
	t.Cleanup(func() {
		sum := make(map[string]int)
		sessions.Range(func(scene, n any) bool {
			side := "to the backend"
			if scene.(faultScene).toClient {
				side = "to the client"
			}
			sum[fmt.Sprintf("%-8s %s", scene.(faultScene).kind, side)] += n.(int)
			return true
		})
		for _, kind := range slices.Sorted(maps.Keys(sum)) {
			t.Logf("%-25s %6d sessions", kind, sum[kind])
		}
	})
}

func faultScenes() (all []faultScene) {
	for _, kind := range []faultKind{delay, trickle, cut, reset, stall} {
		for i := range 12 {
			scene := faultScene{kind: kind, mode: proxy.ModeSTARTTLS, plain: i%3 == 2, pipelined: i/3%2 == 1, toClient: i/6 == 1, every: 1}
			mode := []string{"implicit", "STARTTLS", "plain"}[i%3]
			if mode == "implicit" {
				scene.mode = proxy.ModeImplicitTLS
			}
			if scene.toClient && !scene.plain && !*everyFault {
				scene.every = sampled
			}
			scene.name = fmt.Sprintf("%s/%s/pipelined=%v/toClient=%v", kind, mode, scene.pipelined, scene.toClient)
			all = append(all, scene)
		}
	}
	return all
}

// run does the fault at each byte, and returns how many sessions it took.
func (scene faultScene) run(t *testing.T) (sessions int) {
	change := func(l *proxy.Listener) {
		if scene.plain {
			optional(l)
		}
	}
	inBubble(t, scene.mode, change, nil, func(b *bubble) {
		var sum totals
		clean := b.faulty(scene, fault{kind: noFault})
		if faults := clean.judge(scene, fault{kind: noFault}, nil); len(faults) > 0 {
			b.t.Fatalf("without a fault: %q; log: %v", faults, clean.line)
		}
		sum.add(clean)
		for direction, length := range clean.where(scene).lengths() {
			for at := direction; at < length; at += scene.every {
				f := fault{scene.kind, direction == 1, at}
				o := b.faulty(scene, f)
				sum.add(o)
				if faults := o.judge(scene, f, clean); len(faults) > 0 {
					b.t.Fatalf("%+v of %d bytes:\n%s\nlog: %v\nclient got %q, 250 for %q, was told %q, end %v\nbackend took %q", f, length,
						strings.Join(faults, "\n"), o.line, o.said(), o.acked, o.told, o.end, o.taken)
				}
			}
		}
		b.settled(sum)
		sessions = sum.sessions
	})
	return sessions
}

// totals are what the log tells of a scene's sessions.
type totals struct {
	sessions                      int
	messages, toBackend, toClient float64
	outcomes                      map[string]float64
}

func (t *totals) add(o *outcome) {
	if t.outcomes == nil {
		t.outcomes = make(map[string]float64)
	}
	t.sessions++
	t.outcomes[o.line["outcome"].(string)]++
	t.messages += o.line["messages"].(float64)
	t.toBackend += o.line["bytes_to_backend"].(float64)
	t.toClient += o.line["bytes_to_client"].(float64)
}

// settled checks that the metrics say what the log says, and that nothing is
// left of any session.
func (b *bubble) settled(sum totals) {
	b.t.Helper()
	b.counts(float64(sum.sessions), "connections_total")
	b.counts(float64(sum.sessions), "sessions_total")
	for outcome, n := range sum.outcomes {
		b.counts(n, "sessions_total", "outcome", outcome)
	}
	b.counts(sum.outcomes["backend_unavailable"], "backend_errors_total")
	b.counts(sum.messages, "messages_total")
	b.counts(sum.toBackend, "bytes_total", "direction", "to_backend")
	b.counts(sum.toClient, "bytes_total", "direction", "to_client")
	b.counts(0, "connections_open")
	b.counts(0, "panics_total")
	if n := b.Slots(); n != 0 {
		b.t.Errorf("%d connections still count", n)
	}
	b.takes(0, func() { must(b.t, b.Shutdown(b.t.Context())) })
}
