package starttls_test

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// repeat reads the same segment again and again, n times.
type repeat struct {
	segment []byte
	rest    []byte
	n       int
}

func (r *repeat) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.n == 0 {
			return 0, io.EOF
		}
		r.n--
		r.rest = r.segment
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

type readWriter struct {
	io.Reader
	io.Writer
}

// answering is a backend that gives one reply to each command of known length.
type answering struct {
	text    []byte   // the same reply many times
	reply   int      // length of one
	length  int      // of a command
	replies chan int // to so many commands
	rest    []byte
}

func (a *answering) Write(p []byte) (int, error) {
	a.replies <- len(p) / a.length
	return len(p), nil
}

func (a *answering) Read(p []byte) (int, error) {
	if len(a.rest) == 0 {
		due, open := <-a.replies
		if !open {
			return 0, io.EOF
		}
		a.rest = a.text[:due*a.reply]
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// BenchmarkMessage is the bulk of a client's bytes: records of a message.
func BenchmarkMessage(b *testing.B) {
	for name, line := range map[string]string{
		"base64": strings.Repeat("QUJD", 19) + "\r\n",
		"text":   "Lines of a text. They have dots.\r\n\r\n..and stuffed ones\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			record := []byte(strings.Repeat(line, 1+(16<<10)/len(line)))[:16<<10]
			client := &repeat{segment: record, n: b.N}
			var backend sync.WaitGroup
			replies, reply := io.Pipe()
			f := starttls.NewFilter(readWriter{io.MultiReader(strings.NewReader("DATA\r\n"), client), io.Discard},
				readWriter{replies, io.Discard}, starttls.FilterConfig{})
			backend.Go(func() { f.CopyReplies() })
			backend.Go(func() { io.WriteString(reply, "354 go\r\n") })
			b.SetBytes(int64(len(record)))
			b.ReportAllocs()
			b.ResetTimer()
			f.CopyCommands()
			b.StopTimer()
			reply.Close()
			backend.Wait()
		})
	}
}

// BenchmarkReplies is the bulk of a backend's bytes, in a plain pipe.
func BenchmarkReplies(b *testing.B) {
	segment := bytes.Repeat([]byte("no reply\r\n"), 400)
	f := starttls.NewFilter(readWriter{strings.NewReader(""), io.Discard},
		readWriter{&repeat{segment: segment, n: b.N}, io.Discard}, starttls.FilterConfig{})
	b.SetBytes(int64(len(segment)))
	b.ReportAllocs()
	if err := f.CopyReplies(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCommandGroup is a pipelined group of 20 commands and its replies.
func BenchmarkCommandGroup(b *testing.B) {
	const command = "RCPT TO:<b@example.com>\r\n"
	group := []byte(strings.Repeat(command, 20))
	const reply = "250 2.1.5 ok\r\n"
	backend := &answering{text: bytes.Repeat([]byte(reply), 1000), reply: len(reply), length: len(command), replies: make(chan int, 100)}
	f := starttls.NewFilter(readWriter{&repeat{segment: group, n: b.N}, io.Discard}, backend, starttls.FilterConfig{})
	b.SetBytes(int64(len(group)))
	b.ReportAllocs()
	var replies sync.WaitGroup
	replies.Go(func() { f.CopyReplies() })
	if err := f.CopyCommands(); err != nil {
		b.Fatal(err)
	}
	close(backend.replies)
	replies.Wait()
}
