package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
)

// maxShown is how much of a message's text is printed.
const maxShown = 64 << 10

// printer writes messages to a terminal, whole and one after the other. What
// it prints comes from strangers: nothing of it reaches the terminal as a
// control character, and no text can pass for a line of ours, since each of
// its lines starts with a bar.
type printer struct {
	mu    sync.Mutex
	out   io.Writer
	count int
}

// print writes a message of the session: the text, of which cut bytes more
// are not shown.
func (p *printer) print(s *session, text string, cut int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	var b strings.Builder
	fmt.Fprintf(&b, "\n=== message %d ===\n", p.count)
	field := func(name, value string) {
		fmt.Fprintf(&b, "%-13s%s\n", name, escape.Text(value, ""))
	}
	field("client", s.client.address)
	field("destination", s.client.destination)
	field("TLS", s.client.security())
	field("server name", orNone(s.client.serverName))
	field("session id", orNone(s.client.sessionID))
	field("EHLO", s.client.name)
	if s.user != "" {
		field("AUTH PLAIN", s.user)
	}
	field("MAIL FROM", "<"+s.from+">")
	for _, to := range s.to {
		field("RCPT TO", "<"+to+">")
	}
	text = strings.TrimSuffix(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	fmt.Fprintf(&b, "| %s\n", strings.ReplaceAll(escape.Text(text, "\n\t"), "\n", "\n| "))
	if cut > 0 {
		fmt.Fprintf(&b, "(cut here: %d bytes more)\n", cut)
	}
	p.write(b.String())
}

// write needs the lock. That the terminal is gone is no fault of a client's.
func (p *printer) write(s string) { _, _ = io.WriteString(p.out, s) }

// security is what the header says of the client's TLS.
func (c client) security() string {
	if !c.tls {
		return "none: the client spoke plain text"
	}
	return strings.TrimSpace(c.version + " " + c.cipher)
}

func orNone(s string) string {
	if s == "" {
		return "not told"
	}
	return s
}

// faults prints what go-smtp logs, between messages.
type faults struct{ printer *printer }

func (f faults) Write(line []byte) (int, error) {
	f.printer.mu.Lock()
	defer f.printer.mu.Unlock()
	f.printer.write("demo backend: " + escape.Text(strings.TrimSpace(string(line)), "\n\t") + "\n")
	return len(line), nil
}
