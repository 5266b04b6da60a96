package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
)

// cuts are places at which a client's stream can end: what it sends behind
// RCPT, with the codes it waits for before the last part.
var cuts = []struct {
	name  string
	first string // answered with code, if it is not empty
	code  int
	last  string // answered with nothing
	kept  string // what of last may reach the backend
}{
	{"in DATA", "DATA\r\n", 354, "Subject: MARKER\r\n\r\nhalf a li", "Subject: MARKER\r\n\r\nhalf a li"},
	{"behind a line of DATA", "DATA\r\n", 354, "Subject: MARKER\r\n\r\nwhole lines\r\n", "Subject: MARKER\r\n\r\nwhole lines\r\n"},
	{"before the last LF", "DATA\r\n", 354, "Subject: MARKER\r\n\r\ntext\r\n.\r", "Subject: MARKER\r\n\r\ntext\r\n.\r"},
	{"before the last CRLF", "DATA\r\n", 354, "Subject: MARKER\r\n\r\ntext\r\n.", "Subject: MARKER\r\n\r\ntext\r\n."},
	{"in BDAT LAST, one byte short", "", 0, "BDAT 40 LAST\r\nSubject: MARKER\r\n", "BDAT 40 LAST\r\nSubject: MARKER\r\n"},
	{"between BDAT chunks", "BDAT 6\r\nline\r\n", 250, "", ""},
	{"in a command", "BDAT 6\r\nline\r\n", 250, "BDAT 0 LAST", ""},
	{"in a command, before its LF", "BDAT 6\r\nline\r\n", 250, "BDAT 0 LAST\r", ""},
}

// endings are ways in which a client's stream can end.
var endings = []struct {
	name string
	end  func(c *client) error
}{
	{"close_notify", func(c *client) error {
		if conn, ok := c.conn.(*tls.Conn); ok { // in plain text there is only the next one
			if err := conn.CloseWrite(); err != nil {
				return err
			}
		}
		return c.raw.CloseWrite()
	}},
	{"FIN", func(c *client) error { return c.raw.CloseWrite() }},
	{"RST", func(c *client) error {
		if err := c.raw.SetLinger(0); err != nil {
			return err
		}
		return c.raw.Close()
	}},
}

// cutSession sends a message up to the cut, from an address of its own, and
// ends the stream. It returns all that may reach the backend.
func cutSession(t *testing.T, p *proxy, to port, local, marker string, cut, ending int) string {
	t.Helper()
	c := open(t, to, clientOptions{local: local, serverName: "a.example", trust: p.certificates})
	c.mailTo(t, marker, "user@a.example")
	all := "EHLO " + marker + "\r\nMAIL FROM:<sender@client.test>\r\nRCPT TO:<user@a.example>\r\n" + cuts[cut].first
	if cuts[cut].first != "" {
		c.mustSend(t, cuts[cut].first)
		if _, err := c.expect(cuts[cut].code); err != nil {
			c.fatal(t, err)
		}
	}
	fill := func(text string) string {
		text = strings.Replace(text, "MARKER", marker, 1)
		if _, body, bdat := strings.Cut(text, "BDAT 40 LAST\r\n"); bdat {
			text = fmt.Sprintf("BDAT %d LAST\r\n%s", len(body)+1, body)
		}
		return text
	}
	c.mustSend(t, fill(cuts[cut].last))
	if err := endings[ending].end(c); err != nil {
		t.Fatal(err)
	}
	if endings[ending].name != "RST" {
		if got := c.rest(t); strings.HasPrefix(got, "2") {
			t.Errorf("a client that was cut got %q", got)
		}
	}
	return all + fill(cuts[cut].kept)
}

// eachCut calls f for every port, cut and ending, with an address for the
// client that no other has.
func eachCut(p *proxy, f func(to port, name, local string, cut, ending int)) {
	n := 0
	for _, port := range p.ports() {
		for cut := range cuts {
			for ending := range endings {
				n++
				name := fmt.Sprintf("port %s, %s by %s", port.name, cuts[cut].name, endings[ending].name)
				f(port, name, fmt.Sprintf("127.0.60.%d", n), cut, ending)
			}
		}
	}
}

// TestR60_NothingIsAdded: the backend's stream ends where the client's did.
func TestR60_NothingIsAdded(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address, mx: loopback(t)})
	eachCut(p, func(to port, name, local string, cut, ending int) {
		marker := newMarker()
		want := cutSession(t, p, to, local, marker, cut, ending)
		got := server.waitSession(t, marker).bytes()
		// A reset may overtake what was sent before it.
		if whole := endings[ending].name != "RST"; whole && string(got) != want || !bytes.HasPrefix([]byte(want), got) {
			t.Errorf("%s: the backend got\n%q, want\n%q", name, got, want)
		}
	})
}

// TestR60_NoMessageIsDelivered: a Postfix does not take half a message for a
// whole one.
func TestR60_NoMessageIsDelivered(t *testing.T) {
	t.Parallel()
	server := startPostfix(t)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied, mx: loopback(t)})
	eachCut(p, func(to port, name, local string, cut, ending int) {
		cutSession(t, p, to, local, newMarker(), cut, ending)
		server.waitLog(t, "disconnect from unknown["+local+"]")
	})
	marker := newMarker() // the control, which also takes the way through the queue
	c := open(t, p.ports()[0], clientOptions{serverName: "a.example", trust: certs})
	c.mailTo(t, "client.test", "user@a.example")
	c.must(t, 354, "DATA")
	c.must(t, 250, "Subject: "+marker+"\r\n\r\ntext\r\n.")
	c.mustEnd(t, 221, "QUIT")
	server.waitMessage(t, marker)
	eventually(t, "the queue is empty", func() bool { return len(server.queued(t)) == 0 })
	if messages := server.messages(t); len(messages) != 1 {
		t.Errorf("%d messages were delivered, want the control alone:\n%s", len(messages), bytes.Join(messages, []byte("\n----\n")))
	}
}
