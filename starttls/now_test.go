package starttls_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// records is a client whose reads bring a record each, as those of crypto/tls
// do. Of these, so many are at hand without waiting.
type records struct {
	t      *testing.T
	all    [][]byte
	atHand int
	waits  int // reads that waited
}

func (r *records) Read(p []byte) (int, error) {
	if len(r.all) == 0 {
		return 0, io.EOF
	}
	r.waits++
	r.atHand = 3
	return r.next(p), nil
}

func (r *records) ReadNow(p []byte) (int, error) {
	if len(p) == 0 {
		r.t.Error("a read into nothing")
	}
	if r.atHand == 0 || len(r.all) == 0 {
		return 0, nil
	}
	r.atHand--
	return r.next(p), nil
}

func (r *records) next(p []byte) int {
	n := copy(p, r.all[0])
	if r.all[0] = r.all[0][n:]; len(r.all[0]) == 0 {
		r.all = r.all[1:]
	}
	return n
}

// TestBulkPassesInFewWrites: what is at hand of a message goes to the backend
// in one write, unchanged, and nothing waits for more.
func TestBulkPassesInFewWrites(t *testing.T) {
	t.Parallel()
	body := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 10_000))
	client := &records{t: t, all: [][]byte{[]byte("DATA\r\n")}}
	for rest := append(bytes.Clone(body), ".\r\nQUIT\r\n"...); len(rest) > 0; {
		n := min(len(rest), 16<<10)
		client.all = append(client.all, rest[:n])
		rest = rest[n:]
	}
	backend := &taking{replies: make(chan string, 3)}
	var replies bytes.Buffer
	filter := starttls.NewFilter(clientOf{client, &replies}, backend, starttls.FilterConfig{})
	done := make(chan error)
	go func() { done <- filter.CopyReplies() }()
	if err := filter.CopyCommands(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := "DATA\r\n" + string(body) + ".\r\nQUIT\r\n"; backend.got.String() != want {
		t.Errorf("the backend got %d bytes, want %d unchanged", backend.got.Len(), len(want))
	}
	if records := len(body) >> 14; backend.writes > records/2 {
		t.Errorf("%d writes for %d records", backend.writes, records)
	}
}

// clientOf is a client that can be read without waiting.
type clientOf struct {
	*records
	io.Writer
}

// taking is a backend that takes one message.
type taking struct {
	got     bytes.Buffer
	writes  int
	replies chan string
	rest    string
}

func (b *taking) Write(p []byte) (int, error) {
	b.writes++
	b.got.Write(p)
	switch text := b.got.String(); {
	case strings.HasSuffix(text, "\r\n.\r\nQUIT\r\n"):
		b.replies <- "250 taken\r\n"
		b.replies <- "221 bye\r\n"
		close(b.replies)
	case text == "DATA\r\n":
		b.replies <- "354 go on\r\n"
	}
	return len(p), nil
}

func (b *taking) Read(p []byte) (int, error) {
	if b.rest == "" {
		var open bool
		if b.rest, open = <-b.replies; !open {
			return 0, io.EOF
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}
