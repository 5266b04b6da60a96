package starttls_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// scene is a session that a transcript plays.
type scene struct {
	journal
	path    string
	client  peer
	backend peer
	inbox   map[string][]byte // what arrived and was not expected yet: "S:", "B<"

	server    *starttls.Server
	plaintext *starttls.Plaintext
	trace     *starttls.Trace
	cancel    context.CancelFunc
	filter    *starttls.Filter
	messages  int
	results   map[string]*result // by the word of the directive that checks it
}

type result struct {
	done    bool
	err     error
	checked bool
}

// play runs a transcript: plain_… against a Server, relay_… through a Filter.
func play(t *testing.T, name string) {
	t.Helper()
	t.Run(strings.TrimSuffix(name, ".smtp"), func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { playInBubble(t, filepath.Join("testdata", name)) })
	})
}

func playInBubble(t *testing.T, path string) {
	s := &scene{
		journal: journal{t: t}, path: path, client: newPeer(), backend: newPeer(),
		inbox: map[string][]byte{}, results: map[string]*result{},
		server: &starttls.Server{Hostname: testHost, Keywords: []string{"PIPELINING"}},
	}
	groups := readTranscript(t, path)
	for len(groups) > 0 && groups[0].kind == "!" && s.configure(groups[0].text) {
		groups = groups[1:]
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer s.endStreams()
	if strings.HasPrefix(filepath.Base(path), "plain_") {
		s.startPlain(&running)
	} else {
		s.startRelay(&running)
	}
	for _, g := range groups {
		synctest.Wait()
		s.collect()
		s.step(g)
	}
	synctest.Wait()
	s.collect()
	s.nothingLeft(len(groups))
	s.endStreams()
	running.Wait()
	for word, r := range s.results {
		if !r.checked && r.err != nil && !(word == "negotiate" && errors.Is(r.err, io.EOF)) {
			s.fatalf("%s: %s returned %v, which no line expects", path, word, r.err)
		}
	}
}

func (s *scene) endStreams() {
	s.client.out.Close()
	s.backend.out.Close()
}

// run starts what a directive will check the result of.
func (s *scene) run(running *sync.WaitGroup, word string, f func() error) {
	r := &result{}
	s.results[word] = r
	running.Go(func() { r.err = f(); r.done = true })
}

func (s *scene) startPlain(running *sync.WaitGroup) {
	conn := s.client.dial(running)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.run(running, "negotiate", func() error {
		defer cancel()
		var err error
		s.plaintext, err = s.server.Negotiate(ctx, conn, testID)
		if err == nil {
			// The bytes behind 220 are for TLS: the test sees them as B<. So
			// it does those of a client that goes on in plain text.
			if s.plaintext != nil {
				s.backend.in.Write(s.plaintext.Pending)
			}
			io.Copy(s.backend.in, conn)
		}
		conn.Close()
		return err
	})
}

func (s *scene) startRelay(running *sync.WaitGroup) {
	client, backend := s.client.other(), s.backend.other()
	start := func() {
		s.filter = starttls.NewFilter(client, backend, starttls.FilterConfig{
			Hostname: testHost, ID: testID, Message: func() { s.messages++ },
			Plaintext: s.plaintext, Trace: s.trace,
		})
		s.run(running, "commands", s.filter.CopyCommands)
		s.run(running, "replies", s.filter.CopyReplies)
	}
	if s.plaintext == nil {
		start()
		return
	}
	s.run(running, "replay", func() error {
		reply, err := s.plaintext.Replay(backend)
		switch {
		case err != nil:
			return err
		case !reply.Ready():
			_, err := client.Write(reply.Text)
			return err
		}
		start()
		return nil
	})
}

// collect takes in what arrived.
func (s *scene) collect() {
	for kind, p := range map[string]peer{"S:": s.client, "B<": s.backend} {
		arrived := p.in.take()
		s.note(kind, string(arrived))
		s.inbox[kind] = append(s.inbox[kind], arrived...)
	}
}

func (s *scene) nothingLeft(line int) {
	for kind, rest := range s.inbox {
		if len(rest) > 0 {
			s.fatalf("%s:%d: %s %q was not expected", s.path, line, kind, rest)
		}
	}
}

func (s *scene) step(g group) {
	switch g.kind {
	case "C:", "B>":
		s.nothingLeft(g.line)
		s.note(g.kind, g.text)
		out := s.client.out
		if g.kind == "B>" {
			out = s.backend.out
		}
		if _, err := out.Write([]byte(g.text)); err != nil {
			s.fatalf("%s:%d: %v", s.path, g.line, err)
		}
	case "S:", "B<":
		rest, found := bytes.CutPrefix(s.inbox[g.kind], []byte(g.text))
		if !found {
			s.fatalf("%s:%d: %s got %q, want %q", s.path, g.line, g.kind, rest, g.text)
		}
		s.inbox[g.kind] = rest
	default:
		s.direct(g)
	}
}

// configure obeys a directive that stands before the session.
func (s *scene) configure(directive string) bool {
	word, argument, _ := strings.Cut(directive, " ")
	number, _ := strconv.Atoi(argument)
	switch word {
	case "keywords":
		s.server.Keywords = strings.Split(argument, ",")
	case "tls":
		s.server.TLSAvailable = func() bool { return argument == "available" }
	case "greet-delay":
		delay, err := time.ParseDuration(argument)
		if err != nil {
			return false
		}
		s.server.GreetDelay = delay
	case "optional":
		s.server.Policy = starttls.Optional
	case "identity":
		words := strings.Split(argument, ",")
		s.server.Identity = func() starttls.Identity { return starttls.Identity{Hostname: words[0], Keywords: words[1:]} }
	case "plaintext":
		s.plaintext = &starttls.Plaintext{TLSAvailable: s.server.TLSAvailable}
		if argument != "" {
			s.plaintext.Hello = []byte(argument + "\r\n")
		}
	case "pending":
		s.plaintext.Pending = []byte(decodeLine(s.t, argument))
	case "trace":
		s.trace = testTrace(argument)
	case "max-commands":
		s.server.MaxCommands = number
	case "max-errors":
		s.server.MaxErrors = number
	default:
		return false
	}
	return true
}

// direct obeys a directive within the session.
func (s *scene) direct(g group) {
	word, argument, _ := strings.Cut(g.text, " ")
	check := func(got any) {
		s.t.Helper()
		if fmt.Sprint(got) != argument {
			s.fatalf("%s:%d: %s is %v, want %s", s.path, g.line, word, got, argument)
		}
	}
	s.note("!", g.text)
	switch word {
	case "end":
		map[string]peer{"client": s.client, "backend": s.backend}[argument].out.Close()
	case "pass":
		s.nothingLeft(g.line)
		d, err := time.ParseDuration(argument)
		if err != nil {
			s.fatalf("%s:%d: %v", s.path, g.line, err)
		}
		time.Sleep(d) // in the bubble's time
	case "shutdown":
		s.nothingLeft(g.line)
		s.cancel()
	case "drain":
		check(s.filter.Drain())
	case "owed":
		check(s.filter.Owed())
	case "within":
		check(s.filter.WithinMessage())
	case "messages":
		check(s.messages)
	case "hello":
		s.nothingLeft(g.line)
		check(strings.TrimSuffix(string(s.plaintext.Hello), "\r\n"))
	case "negotiate", "replay", "commands", "replies":
		r := s.results[word]
		r.checked = true
		switch want, known := sentinels[argument]; {
		case !known:
			s.fatalf("%s:%d: unknown result %q", s.path, g.line, argument)
		case !r.done:
			s.fatalf("%s:%d: %s has not returned", s.path, g.line, word)
		case !errors.Is(r.err, want):
			s.fatalf("%s:%d: %s returned %v, want %v", s.path, g.line, word, r.err, want)
		}
	default:
		s.fatalf("%s:%d: unknown directive", s.path, g.line)
	}
}

var sentinels = map[string]error{
	"nil": nil, "EOF": io.EOF, "timeout": os.ErrDeadlineExceeded,
	"ErrQuit": starttls.ErrQuit, "ErrEarlyTalker": starttls.ErrEarlyTalker, "ErrInjection": starttls.ErrInjection, "ErrTLSRecord": starttls.ErrTLSRecord,
	"ErrHTTP": starttls.ErrHTTP, "ErrTooMuch": starttls.ErrTooMuch, "ErrTooManyErrors": starttls.ErrTooManyErrors,
	"ErrShutdown": starttls.ErrShutdown, "ErrRefused": starttls.ErrRefused, "ErrDrained": starttls.ErrDrained,
	"ErrTruncated": starttls.ErrTruncated, "ErrEHLOTooLong": starttls.ErrEHLOTooLong,
	"ErrSTARTTLS": starttls.ErrSTARTTLS, "ErrHello": starttls.ErrHello,
}

// testTrace has the facts of a trace header for a client's address.
func testTrace(address string) *starttls.Trace {
	return &starttls.Trace{
		Client: netip.MustParseAddr(address), ServerName: "mail.example.com",
		TLSVersion: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256",
		Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", -3600)) },
	}
}
