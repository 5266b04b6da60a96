package starttls

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Why a relay ended, besides the errors of the connections.
var (
	// ErrRefused: the client spoke HTTP under TLS and got 554.
	ErrRefused = errors.New("client spoke HTTP under TLS")
	// ErrDrained: Drain ended the session between two transactions with 421.
	ErrDrained = errors.New("drained")
	// ErrTruncated: the client's stream ended within a command or a message.
	// Nothing was completed.
	ErrTruncated = errors.New("client's stream ended within a command or a message")
	// ErrEHLOTooLong: the backend's reply to EHLO passed every bound.
	ErrEHLOTooLong = errors.New("backend's reply to EHLO is too long")
)

const (
	// maxCommandLine is the longest command that is followed. AUTH needs
	// 12,288 octets (RFC 4954 section 4.5.1); no other command needs more.
	maxCommandLine = bigBuffer
	// maxEHLOReply bounds the reply to EHLO, which is held until it is whole.
	maxEHLOReply = 64 << 10
	// maxPending bounds the commands whose replies are awaited. A client that
	// pipelines more waits for replies, as it would on a full socket.
	maxPending = 1024

	smallBuffer = 4 << 10  // what an idle session holds in each direction
	bigBuffer   = 64 << 10 // what a busy one borrows
)

var bigBuffers = sync.Pool{New: func() any { return new([bigBuffer]byte) }}

// FilterConfig is what a Filter needs to know of its session.
type FilterConfig struct {
	// Hostname and ID stand in the replies that the filter makes itself.
	Hostname string
	ID       string
	// Message is called when the backend has taken a message, from the
	// goroutine of CopyReplies. nil is allowed.
	Message func()
}

// Filter relays SMTP between a client under TLS and a backend. Everything
// passes byte for byte, except that
//
//   - STARTTLS, XCLIENT, XFORWARD and the SCRAM-…-PLUS mechanisms are taken
//     out of the backend's replies to EHLO;
//   - a client's STARTTLS gets 503, XCLIENT and XFORWARD get 502, and an HTTP
//     request gets 554 and the end of the session;
//   - [Filter.Drain] ends the session with 421 between two transactions.
//
// For that it follows commands and replies as RFC 5321, 2920 (PIPELINING),
// 3030 (BDAT) and 4954 (AUTH) pair them. Only CRLF ends a command and only
// CRLF "." CRLF ends a message. Where the session leaves these rules, the
// filter stops looking and is a plain pipe from then on: it never drops or
// changes a byte because it lost track.
//
// A command passes on when its line is whole, so that a connection that is
// cut never completes one; message data passes on as it comes.
//
// The filter begins behind the backend's greeting, which [ReadGreeting] takes.
// CopyCommands and CopyReplies run in one goroutine each; Drain and Owed may
// be called at any time. The filter closes nothing.
type Filter struct {
	FilterConfig
	client  io.ReadWriter
	backend io.ReadWriter

	// Owned by CopyCommands.
	window window
	phase  phase
	dot    endOfData
	chunk  uint64 // octets of a BDAT chunk to come

	// Owned by CopyReplies.
	parser replyParser
	ehlo   []byte // reply to EHLO, so far
	first  bool   // at the first byte of a reply
	hold   bool   // the current reply is one to EHLO

	mu          sync.Mutex
	changed     sync.Cond
	pending     []command // commands without a reply, oldest first
	unwritten   bool      // a reply was taken off pending but is not with the client yet
	ahead       bool      // the backend has bytes that CopyCommands has not followed yet
	lastCode    int       // of the reply last completed
	chunking    bool      // the backend takes BDAT
	transaction bool      // a MAIL command was accepted and its message is not done
	exchange    bool      // within an AUTH exchange
	draining    bool
	over        bool // 421 was sent: nothing more passes
	ended       bool // one direction is done: nobody is waited for
	lost        bool // the session is a plain pipe
}

// NewFilter prepares a relay between two connections.
func NewFilter(client, backend io.ReadWriter, config FilterConfig) *Filter {
	f := &Filter{FilterConfig: config, client: client, backend: backend, first: true}
	f.changed.L = &f.mu
	f.window.buf = make([]byte, smallBuffer)
	return f
}

// Drain ends the session as soon as no transaction is open and every command
// has its reply: the client then gets 421. It reports whether that was so at
// once. Otherwise CopyReplies returns ErrDrained when it comes to that.
func (f *Filter) Drain() bool {
	f.mu.Lock()
	f.draining = true
	idle := f.drainable()
	f.over = f.over || idle
	f.mu.Unlock()
	if idle {
		f.sayDrained()
	}
	return idle
}

// drainable needs mu.
func (f *Filter) drainable() bool {
	return f.draining && !f.over && !f.lost && !f.unwritten && !f.ahead &&
		len(f.pending) == 0 && !f.transaction && !f.exchange
}

func (f *Filter) sayDrained() {
	fmt.Fprintf(f.client, "421 4.3.2 %s shutting down (%s)\r\n", f.Hostname, f.ID)
}

// Owed tells whether the backend owes the client a reply, as it does while it
// decides about a message.
func (f *Filter) Owed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.pending) > 0 || f.unwritten
}

// lose makes the session a plain pipe.
func (f *Filter) lose() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setLost()
}

// setLost needs mu.
func (f *Filter) setLost() {
	f.lost = true
	f.changed.Broadcast()
}

// end wakes the other direction when one is done.
func (f *Filter) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.changed.Broadcast()
}

// waitUntil blocks until met is true, or there is no point in waiting. It
// needs mu, and lets go of it while it waits.
func (f *Filter) waitUntil(met func() bool) {
	for !met() && !f.ended && !f.lost && !f.over {
		f.changed.Wait()
	}
}
