package starttls_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

func TestReadGreeting(t *testing.T) {
	tests := []struct {
		name string
		said string
		code int
		err  error
	}{
		{"one line", "220 mx ESMTP\r\n", 220, nil},
		{"three lines", "220-mx\r\n220-\r\n220 ready\r\n", 220, nil},
		{"code alone", "220\r\n", 220, nil},
		{"bare LF", "220-mx\n220\n", 220, nil},
		{"refusal", "554 5.7.1 no\r\n", 554, nil},
		{"8 KiB", "220-" + strings.Repeat("x", 8000) + "\r\n220 y\r\n", 220, nil},
		{"longer", "220-" + strings.Repeat("x", 9000) + "\r\n220 y\r\n", 0, starttls.ErrGreeting},
		{"without end", strings.Repeat("220-x\r\n", 5000), 0, starttls.ErrGreeting},
		{"two codes", "220-mx\r\n221 mx\r\n", 0, starttls.ErrGreeting},
		{"no code", "HTTP/1.1 400 Bad Request\r\n", 0, starttls.ErrGreeting},
		{"code of four digits", "2200 mx\r\n", 0, starttls.ErrGreeting},
		{"code below 200", "120 mx\r\n", 0, starttls.ErrGreeting},
		{"code above 599", "620 mx\r\n", 0, starttls.ErrGreeting},
		{"empty line", "\r\n", 0, starttls.ErrGreeting},
		{"TLS alert", "\x15\x03\x03\x00\x02\x02\x0a", 0, starttls.ErrGreeting},
		{"nothing", "", 0, io.EOF},
		{"cut in the first line", "220 m", 0, io.ErrUnexpectedEOF},
		{"cut between lines", "220-mx\r\n", 0, io.ErrUnexpectedEOF},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for cut, r := range map[string]io.Reader{
				"at once":      strings.NewReader(test.said),
				"with EOF":     iotest.DataErrReader(strings.NewReader(test.said)),
				"byte by byte": iotest.OneByteReader(strings.NewReader(test.said)),
			} {
				g, err := starttls.ReadGreeting(r)
				if g.Code != test.code || !errors.Is(err, test.err) || g.Ready() != (test.code == 220) {
					t.Errorf("%s: code %d, error %v, want %d, %v", cut, g.Code, err, test.code, test.err)
				}
				if !strings.HasPrefix(test.said, string(g.Text)) || err == nil && string(g.Text) != test.said {
					t.Errorf("%s: text %q of %q", cut, g.Text, test.said)
				}
			}
		})
	}
}

// What a backend says behind its greeting before it was spoken to would be
// taken for the first reply, or, in another segment, is left unread for that.
func TestReadGreetingTakesNothingBehind(t *testing.T) {
	if _, err := starttls.ReadGreeting(strings.NewReader("220 mx\r\n250 and more\r\n")); !errors.Is(err, starttls.ErrGreeting) {
		t.Errorf("in one segment: %v", err)
	}
	rest := strings.NewReader("250 and more\r\n")
	if _, err := starttls.ReadGreeting(io.MultiReader(strings.NewReader("220 mx\r\n"), rest)); err != nil || rest.Len() != 14 {
		t.Errorf("in two segments: %v, %d bytes left", err, rest.Len())
	}
}
