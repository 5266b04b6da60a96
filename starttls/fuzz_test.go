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
)

// FuzzServer holds the plain phase to what is true of any client: one reply to
// each line, in printable ASCII, and no byte read behind a STARTTLS that was
// granted, which is the last line.
func FuzzServer(f *testing.F) {
	f.Fuzz(func(t *testing.T, client []byte, seed uint64) {
		conn := &fixedConn{cutter: cutter{rand.New(rand.NewPCG(seed, 2)), bytes.Clone(client)}}
		server := &starttls.Server{Hostname: testHost}
		_, err := server.Negotiate(context.Background(), conn, testID)
		taken := client[:len(client)-len(conn.rest)]
		replies := lastLines.FindAll(conn.said.Bytes(), -1)
		fail := func(what string) {
			t.Helper()
			t.Fatalf("%s; Negotiate returned %v\nclient, cut by %d:%s\nserver:%s", what, err, seed,
				lines("C:", client), lines("S:", conn.said.Bytes()))
		}
		if !wholeReplies.Match(conn.said.Bytes()) {
			fail("what it said are no replies")
		}
		want := 1 + bytes.Count(taken, []byte("\n")) // with the greeting
		switch {
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
		if bytes.Count(conn.said.Bytes(), []byte("Ready to start TLS")) > 0 && err != nil {
			fail("220 to STARTTLS, and yet an error")
		}
	})
}

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
