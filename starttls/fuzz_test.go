package starttls_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// FuzzFilter runs any bytes of a client's, cut anywhere in both directions,
// through a filter to backends strict and lenient, under TLS and in plain text,
// with trace headers and without, and holds what comes out against the
// reference.
func FuzzFilter(f *testing.F) {
	f.Fuzz(func(t *testing.T, client []byte, lenient uint16, seed uint64) {
		checkRelay(t, client, traits(lenient%firstKind), seed, kind(lenient&^(firstKind-1)))
	})
}

// fixedConn is a connection on which a client says what is given and then is
// gone.
type fixedConn struct {
	cutter
	said bytes.Buffer
}

func (c *fixedConn) Write(p []byte) (int, error)      { return c.said.Write(p) }
func (c *fixedConn) Close() error                     { return nil }
func (c *fixedConn) LocalAddr() net.Addr              { return nil }
func (c *fixedConn) RemoteAddr() net.Addr             { return nil }
func (c *fixedConn) SetDeadline(time.Time) error      { return nil }
func (c *fixedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *fixedConn) SetWriteDeadline(time.Time) error { return nil }

var (
	wholeReplies = regexp.MustCompile(`^(?:(?:[2-5][0-9][0-9]-[ -~]*\r\n)*[2-5][0-9][0-9] [ -~]*\r\n)+$`)
	grantable    = regexp.MustCompile(`(?i)(?:^|\n)[ \t]*starttls[ \t]*\r?\n$`)
	lastLines    = regexp.MustCompile(`(?m)^[0-9]{3} .*$`)
	helloLine    = regexp.MustCompile(`^(?:EHLO|HELO) [^\x00-\x1f\x7f]+\r\n$`)
	// ours are the lines that no backend may have of the plain phase.
	ours = regexp.MustCompile(`(?i)^[ \t]*(?:(?:EHLO|HELO|NOOP|RSET|HELP|QUIT|STARTTLS|AUTH|XCLIENT|XFORWARD|GET|POST)(?:[^a-z0-9-]|$)|[^a-z \t])`)
)

// FuzzServer holds the plain phase to what is true of any client: one reply to
// each line, in printable ASCII, and no byte read behind a STARTTLS that was
// granted, which is the last line. Where TLS is optional, what is left for a
// backend is all that has no reply, and begins with a line that is not ours.
func FuzzServer(f *testing.F) {
	f.Fuzz(func(t *testing.T, client []byte, seed uint64, policy byte) {
		conn := &fixedConn{cutter: cutter{rand.New(rand.NewPCG(seed, 2)), bytes.Clone(client)}}
		server := &starttls.Server{Hostname: testHost, Policy: starttls.Policy(policy % 2)}
		plaintext, err := server.Negotiate(context.Background(), conn, testID)
		taken := client[:len(client)-len(conn.rest)]
		replies := lastLines.FindAll(conn.said.Bytes(), -1)
		fail := func(what string) {
			t.Helper()
			t.Fatalf("%s; Negotiate returned %v with policy %v\nclient, cut by %d:%s\nserver:%s", what, err, server.Policy, seed,
				lines("C:", client), lines("S:", conn.said.Bytes()))
		}
		if !wholeReplies.Match(conn.said.Bytes()) {
			fail("what it said are no replies")
		}
		want := 1 + bytes.Count(taken, []byte("\n")) // with the greeting
		switch {
		case plaintext != nil:
			want -= bytes.Count(plaintext.Pending, []byte("\n"))
			if fault := plaintextFault(plaintext, taken); fault != "" || server.Policy != starttls.Optional {
				fail("it went on in plain text: " + fault)
			}
		case err == nil:
			if !grantable.Match(taken) {
				fail("TLS begins behind something else than STARTTLS")
			}
			if string(replies[len(replies)-1]) != "220 2.0.0 Ready to start TLS\r" {
				fail("the last reply is not the 220 for STARTTLS")
			}
		case errors.Is(err, io.EOF):
		case errors.Is(err, starttls.ErrTooMuch), errors.Is(err, starttls.ErrTooManyErrors):
			want = min(want+1, len(replies)) // the 421; what stands behind it has no reply
		default:
			want = min(want, len(replies)) // the last command's tail has no reply
		}
		if len(replies) != want {
			fail("not one reply to each line")
		}
		if bytes.Count(conn.said.Bytes(), []byte("Ready to start TLS")) > 0 && (err != nil || plaintext != nil) {
			fail("220 to STARTTLS, and yet no TLS")
		}
	})
}

// plaintextFault tells what is wrong with a Plaintext, of what was read.
func plaintextFault(p *starttls.Plaintext, taken []byte) string {
	line, _, whole := bytes.Cut(p.Pending, []byte("\n"))
	answered, isTail := bytes.CutSuffix(taken, p.Pending)
	switch {
	case !isTail || len(answered) > 0 && answered[len(answered)-1] != '\n':
		return "what is pending is not the rest"
	case !whole || ours.Match(bytes.TrimSuffix(line, []byte("\r"))):
		return "it is not the backend's command that is pending"
	case p.Hello != nil && !helloLine.Match(p.Hello):
		return "what is to be replayed is no EHLO"
	case p.Hello != nil && !bytes.Contains(bytes.ToUpper(answered), p.Hello[:4]):
		return "an EHLO is to be replayed that was not said"
	}
	return ""
}

// FuzzProbe holds that whatever a backend says, the keywords read of it are
// such as may be said on, one line each, and few.
func FuzzProbe(f *testing.F) {
	f.Fuzz(func(t *testing.T, ehlo []byte) {
		backend, _ := script("220 mx\r\n", string(ehlo))
		identity, err := starttls.Probe(backend, "proxy.example")
		if err != nil && (identity.Hostname != "" || identity.Keywords != nil) {
			t.Fatalf("%v, and yet %+v", err, identity)
		}
		if !offerable.MatchString(identity.Hostname) || len(identity.Keywords) > 100 {
			t.Fatalf("%+v of %q", identity, ehlo)
		}
		for _, keyword := range identity.Keywords {
			if keyword == "" || len(keyword) > 500 || !offerable.MatchString(keyword) || notOffered.MatchString(keyword) || !bytes.Contains(ehlo, []byte(keyword)) {
				t.Fatalf("keyword %q of %q", keyword, ehlo)
			}
		}
	})
}

var (
	offerable  = regexp.MustCompile(`^[ -~\t]*$`)
	notOffered = regexp.MustCompile(`(?i)^(?:STARTTLS|AUTH|XCLIENT|XFORWARD|REQUIRETLS)(?:[^a-z0-9_-]|$)`)
)

var wholeGreeting = regexp.MustCompile(`^(?:([2-5][0-9][0-9])-[^\n]*\n)*([2-5][0-9][0-9])(?:[ \r][^\n]*)?\n$`)

// FuzzReadGreeting holds that a greeting is one whole reply of one code, with
// nothing read behind it, and that everything else is an error.
func FuzzReadGreeting(f *testing.F) {
	f.Fuzz(func(t *testing.T, backend []byte, seed uint64) {
		conn := &cutter{rand.New(rand.NewPCG(seed, 2)), bytes.Clone(backend)}
		g, err := starttls.ReadGreeting(conn)
		taken := backend[:len(backend)-len(conn.rest)]
		if !bytes.Equal(g.Text, taken) {
			t.Fatalf("Text is %q, but %q was read", g.Text, taken)
		}
		whole := wholeGreeting.MatchString(latin1(taken)) && oneCode(taken)
		switch {
		case err == nil && !whole:
			t.Fatalf("%q is no greeting", taken)
		case err == nil && string(taken[:3]) != strconv.Itoa(g.Code):
			t.Fatalf("code %d of %q", g.Code, taken)
		case err != nil && whole && len(taken) <= 8<<10:
			t.Fatalf("%q: %v", taken, err)
		case err != nil && !errors.Is(err, starttls.ErrGreeting) && len(conn.rest) > 0:
			t.Fatalf("%v, although there is more", err)
		case len(taken) > 8<<10+512:
			t.Fatalf("%d bytes were read", len(taken))
		}
	})
}

// latin1 makes each byte one character, as regexp has no other way to take all
// bytes.
func latin1(p []byte) string {
	runes := make([]rune, len(p))
	for i, c := range p {
		runes[i] = rune(c)
	}
	return string(runes)
}

func oneCode(reply []byte) bool {
	for line := range bytes.Lines(reply) {
		if !bytes.HasPrefix(line, reply[:3]) {
			return false
		}
	}
	return true
}
