package starttls

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Why a relay ended, besides the errors of the connections and ErrInjection,
// which CopyCommands returns as Negotiate does. The client has its last reply
// when one of them is returned, but for ErrTruncated.
var (
	// ErrRefused is returned by CopyCommands, wrapped with what it was, when
	// the client sent what ends a session: HTTP, which got 554, or, in a
	// session that is a plain pipe, what the filter would refuse, which got
	// 421. The backend did not get it.
	ErrRefused = errors.New("client refused")
	// ErrSTARTTLS is returned by CopyCommands when a client in plain text asked
	// for TLS and got 220. The next byte of the client's is for the handshake;
	// the session with the backend is over and forgotten (RFC 3207 section
	// 4.2), even within a transaction.
	ErrSTARTTLS = errors.New("client goes on under TLS")
	// ErrDrained is returned by both copies when Drain ended the session
	// between two transactions with 421.
	ErrDrained = errors.New("drained")
	// ErrEHLOTooLong is returned by both copies when the backend's reply to
	// EHLO passed 64 KiB. The client got 421 in its place.
	ErrEHLOTooLong = errors.New("backend's reply to EHLO is too long")
	// ErrTruncated is returned by CopyCommands when the client's stream ended
	// within a command or a message. Nothing was completed.
	ErrTruncated = errors.New("client's stream ended within a command or a message")
)

var (
	errHTTP   = fmt.Errorf("%w: it spoke HTTP", ErrRefused)
	errHidden = fmt.Errorf("%w: a command hidden from the filter", ErrRefused)
	// errEnded: the other direction is over, so that nothing comes of this one.
	errEnded = errors.New("backend's stream has ended")
)

// maxPending bounds the commands whose replies are awaited. A client that
// pipelines more waits for replies, as it would on a full socket.
const maxPending = 1024

// FilterConfig is what a Filter needs to know of its session.
type FilterConfig struct {
	// Hostname and ID stand in the replies that the filter makes itself: the
	// proxy's domain name and the session's name in the log. Neither may hold
	// a line end.
	Hostname string
	ID       string
	// Message is called each time the backend has taken a message (a 2yz reply
	// to the end of DATA or to BDAT LAST), before the client has that reply,
	// from the goroutine of CopyReplies. nil is allowed.
	Message func()
	// Plaintext is the client of a session without TLS, as Negotiate returned
	// it. nil means that the client is under TLS.
	Plaintext *Plaintext
	// Trace, unless nil, makes the filter put a Received header before each
	// message, and take what goes with BDAT out of replies to EHLO.
	Trace *Trace
}

// Filter relays SMTP between a client and a backend. Everything passes byte for
// byte, except that
//
//   - STARTTLS, XCLIENT, XFORWARD and the SASL mechanisms that bind to the TLS
//     channel (SCRAM-…-PLUS) are taken out of the backend's replies to EHLO;
//   - a client's STARTTLS gets 503, XCLIENT, XFORWARD and PROXY get 502, and an HTTP
//     request gets 554 and the end of the session;
//   - [Filter.Drain] ends the session with 421 between two transactions.
//
// For a client in plain text (see [Plaintext])
//
//   - AUTH and REQUIRETLS are taken out as well, and STARTTLS is added;
//   - AUTH gets 530;
//   - STARTTLS gets 220 once all replies before it are with the client, and
//     ends the relay with ErrSTARTTLS. An open transaction is forgotten: its
//     message was not accepted, and the client knows. It gets 501 with an
//     argument, 454 where there is no certificate, and 503 and the end of the
//     session (ErrInjection) where bytes came behind it in the same flight.
//
// With a [Trace] each message gets one more header.
//
// For that it follows commands and replies as RFC 5321, 2920 (PIPELINING),
// 3030 (BDAT) and 4954 (AUTH) pair them. Only CRLF ends a command and only
// CRLF "." CRLF ends a message. Where the session leaves these rules, the
// filter stops looking and is a plain pipe from then on: it never drops or
// changes a byte because it lost track.
//
// A plain pipe must not become a way around the filter. A client can make one
// on purpose, with a bare LF for example, and a backend that believes the
// proxy would then believe the client's XCLIENT, and relay for it. So the pipe
// still ends a session, with 421, rather than pass a line that begins with one
// of the refused commands. An honest client meets that only if it broke the
// rules before and then sends such a line within a message; its mail is
// refused, never changed.
//
// A command passes on when its line is whole, so that a connection that is
// cut never completes one; message data passes on as it comes.
//
// The filter begins behind the backend's greeting, which [ReadGreeting] takes.
// CopyCommands and CopyReplies run in one goroutine each, once; the others may
// be called at any time from any goroutine. Replies of the filter's own
// may be written to the client while CopyReplies writes others, so the
// client's Write must be safe for concurrent use, as that of a net.Conn is.
//
// The filter closes nothing and sets no deadline. When one of the copies
// returns an error, the caller ends the other by a deadline or by closing the
// connections.
type Filter struct {
	config  FilterConfig
	client  io.ReadWriter
	backend io.ReadWriter

	// Owned by CopyCommands.
	commands io.Reader // of the client, with what was read before
	refused  refusals
	window   window
	phase    phase
	data     endOfData
	chunk    uint64 // octets of a BDAT chunk to come
	guard    guard  // looks through the plain pipe
	hello    string // the client's last EHLO or HELO, for a trace

	// Owned by CopyReplies.
	parser replyParser
	seen   ehloFilter
	ehlo   []byte // reply to EHLO, so far
	hold   bool   // the current reply is one to EHLO
	taken  int    // messages to be counted

	mu          sync.Mutex
	changed     sync.Cond
	pending     []command // commands without a reply, oldest first
	first       bool      // no reply is half read
	unwritten   bool      // a reply was taken off pending but is not with the client yet
	answering   bool      // the filter writes a reply of its own
	ahead       bool      // the backend has a line that CopyCommands has not followed yet
	lastCode    int       // of the reply last completed
	chunking    bool      // the backend takes BDAT
	transaction bool      // a MAIL command was accepted and its message is not done
	begun       bool      // a message has begun, with 354 or a chunk, and its end was not sent
	exchange    bool      // within an AUTH exchange
	authed      bool      // an AUTH command got 235
	draining    bool
	over        error // why the session was ended: nothing more passes
	ended       bool  // one direction is done: nobody is waited for
	lost        bool  // the session is a plain pipe
	asked       bool  // in the plain pipe: the client spoke last
}

// NewFilter prepares a relay between two connections.
func NewFilter(client, backend io.ReadWriter, config FilterConfig) *Filter {
	f := &Filter{
		config: config, client: client, backend: backend, commands: client,
		refused: underTLS, seen: ehloFilter{hidden: tlsHidden}, first: true,
	}
	if p := config.Plaintext; p != nil {
		f.commands = io.MultiReader(bytes.NewReader(p.Pending), client)
		f.refused = inPlain
		f.seen = ehloFilter{hidden: plainHidden, starttls: true}
		f.hello, f.chunking = string(p.Hello), p.chunking && config.Trace == nil
	}
	if config.Trace != nil {
		f.seen.hidden = slices.Concat(f.seen.hidden, chunkKeywords)
	}
	f.guard.refused = f.refused
	f.changed.L = &f.mu
	f.window.buf = f.window.small[:]
	return f
}

// Drain ends the session as soon as no transaction is open and every command
// has its reply: the client then gets 421. It reports whether that was so at
// once. Otherwise both copies return ErrDrained when it comes to that. A
// session that became a plain pipe does not end by itself. Drain takes as long
// as the client takes to receive the reply.
func (f *Filter) Drain() bool {
	f.mu.Lock()
	f.draining = true
	f.mu.Unlock()
	return f.atRest() != nil
}

// atRest wakes what waits for replies, and ends a session that only waited for
// them to end. Without it a drained session would go on until the client's
// next command.
func (f *Filter) atRest() error {
	f.mu.Lock()
	drained := f.drainable()
	if drained {
		f.over = ErrDrained
	}
	f.changed.Broadcast()
	f.mu.Unlock()
	if !drained {
		return nil
	}
	f.say("421 4.3.2 %s shutting down (%s)")
	return ErrDrained
}

// drainable needs mu. Behind 221 and 421 a 421 would be one reply too many.
func (f *Filter) drainable() bool {
	return f.draining && f.over == nil && !f.lost && !f.ended &&
		f.first && !f.unwritten && !f.answering && !f.ahead && len(f.pending) == 0 &&
		!f.transaction && !f.exchange && f.lastCode != 221 && f.lastCode != 421
}

// hangUp ends the session with a last reply, and returns the reason.
func (f *Filter) hangUp(reason error, format string) error {
	f.mu.Lock()
	if f.over != nil {
		defer f.mu.Unlock()
		return f.over
	}
	f.over = reason
	f.changed.Broadcast()
	f.mu.Unlock()
	f.say(format)
	return reason
}

// say writes a last reply. That it cannot be written changes nothing: the
// session is over in any case.
func (f *Filter) say(format string) {
	fmt.Fprintf(f.client, format+"\r\n", f.config.Hostname, f.config.ID)
}

// Owed tells whether the backend owes the client a reply, as it does while it
// decides about a message: to cut the connection then makes the client send
// the message again. In a plain pipe it tells whether the client spoke last.
func (f *Filter) Owed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		return f.asked
	}
	return len(f.pending) > 0 || f.unwritten
}

// WithinMessage tells whether the client has begun a message and not sent its
// end: a backend that leaves then has lost the message, although it owes no
// reply. One that said before that it would, with 421, has answered. In a plain
// pipe it is false.
func (f *Filter) WithinMessage() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun && !f.lost
}

// WithinTransaction tells whether the backend has accepted a MAIL command, and
// neither its message nor what else ends a transaction has come. It is false
// where the backend said, with 221 or 421, that it leaves, and in a plain pipe.
func (f *Filter) WithinTransaction() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.transaction && !f.lost && f.lastCode != 221 && f.lastCode != 421
}

// setLost makes the session a plain pipe. It needs mu.
func (f *Filter) setLost() {
	if f.lost {
		return
	}
	f.lost, f.asked = true, len(f.pending) > 0
	f.changed.Broadcast()
}

// end wakes the other direction when one is done.
func (f *Filter) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.changed.Broadcast()
}

// waitUntil blocks until met is true or the session is a plain pipe, and
// returns why there is no point in waiting any more. It needs mu, and lets go
// of it while it waits.
func (f *Filter) waitUntil(met func() bool) error {
	for {
		switch {
		case f.over != nil:
			return f.over
		case f.lost || met():
			return nil
		case f.ended:
			return errEnded
		}
		f.changed.Wait()
	}
}
