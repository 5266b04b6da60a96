package starttls

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// StepError tells at which step a dialogue with a backend ended.
type StepError struct {
	Step string // "greeting", "EHLO", "STARTTLS", "XCLIENT" or "QUIT"
	Code int    // of the reply that refused; 0 where no reply came
	// Reply is the text of that reply, cut to 255 bytes, and as the backend
	// sent it but for bytes that are not UTF-8.
	Reply string
	Err   error
}

func (e *StepError) Error() string { return e.Step + ": " + e.Err.Error() }
func (e *StepError) Unwrap() error { return e.Err }

// errUnready is the cause where a backend answered, but not with 2yz.
var errUnready = errors.New("backend refuses")

// Probe asks a backend on a fresh connection, behind its PROXY header, who it
// is and what it offers: it reads the greeting, says EHLO with the given domain
// name, reads the reply, says QUIT and reads the reply to that. A backend that
// hangs up in place of the last reply is fine too.
//
// The error is a *StepError. Where its step is QUIT, the backend's only fault
// is there, and the identity is what it offers. The replies may have 8 KiB, the
// one to EHLO 64 KiB.
//
// The caller sets the deadline and closes the connection.
func Probe(backend io.ReadWriter, name string) (Identity, error) {
	greeting, err := ReadGreeting(backend)
	if err := stepped("greeting", greeting, err); err != nil {
		return Identity{}, err
	}
	return ProbeGreeted(backend, name)
}

// ProbeGreeted is Probe on a connection whose greeting the caller has read.
func ProbeGreeted(backend io.ReadWriter, name string) (Identity, error) {
	reply, err := hello(backend, name)
	if err != nil {
		return Identity{}, err
	}
	identity := ParseEHLO(reply.Text)
	reply, err = exchange(backend, "QUIT\r\n", maxGreeting, ErrReply)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return identity, nil
	}
	return identity, stepped("QUIT", reply, err)
}

// Upgrade asks a backend that has greeted for TLS: it says EHLO with the given
// domain name, and STARTTLS (RFC 3207) if the reply offers that. The caller
// begins the handshake when it returns nil, and closes the connection if not:
// to go on would be in plain text. The error is a *StepError; bytes behind the
// reply, which somebody else may have put there, are one, too.
func Upgrade(backend io.ReadWriter, name string) error {
	reply, err := hello(backend, name)
	if err != nil {
		return err
	}
	if !hasKeyword(reply.Text, "STARTTLS") {
		return &StepError{Step: "STARTTLS", Err: errors.New("backend does not offer it")}
	}
	reply, err = exchange(backend, "STARTTLS\r\n", maxGreeting, ErrReply)
	return stepped("STARTTLS", reply, err)
}

// XCLIENT tells a backend that has greeted who the client is, as Postfix's
// XCLIENT_README has it: it says EHLO with the given domain name, takes the
// attributes that the backend offers, and says the commands that the function
// makes of them. It returns the backend's last reply, which is its greeting for
// that client, and in which 421, 521 and 554 refuse the client (RFC 5321
// section 4.2.3, RFC 7504).
//
// The caller closes the connection after an error: what follows would be said
// in the name of the proxy itself. The error is a *StepError, or the function's.
func XCLIENT(backend io.ReadWriter, name string, commands func(attributes []string) ([]string, error)) (Greeting, error) {
	reply, err := hello(backend, name)
	if err != nil {
		return Greeting{}, err
	}
	attributes := ParseEHLO(reply.Text).XCLIENT
	if attributes == nil {
		return Greeting{}, &StepError{Step: "XCLIENT", Err: errors.New("backend does not offer it")}
	}
	said, err := commands(attributes)
	if err != nil {
		return Greeting{}, err
	}
	for _, command := range said {
		reply, err = exchange(backend, command, maxGreeting, ErrReply)
		switch {
		case err != nil:
			return Greeting{}, &StepError{Step: "XCLIENT", Err: err}
		case slices.Contains(notServed, reply.Code):
			return reply, nil
		case reply.Code != ready: // 250 takes it for a word, and begins no new session
			return Greeting{}, refused("XCLIENT", reply)
		}
	}
	return reply, nil
}

// ready is the code with which a server greets.
const ready = 220

// notServed are the codes with which a server greets a client that it does not
// serve. All others in reply to XCLIENT are about the command, and so our fault.
var notServed = []int{421, 521, 554}

// ErrReply is returned, wrapped, where a backend's answer to a command other than
// EHLO is no SMTP reply, and by ReadReply.
var ErrReply = errors.New("backend's answer is not an SMTP reply")

// hello says EHLO and takes the reply, which is good unless there is an error.
func hello(backend io.ReadWriter, name string) (Greeting, error) {
	reply, err := exchange(backend, "EHLO "+name+"\r\n", maxEHLOReply, ErrHello)
	return reply, stepped("EHLO", reply, err)
}

// exchange says one command and takes the reply.
func exchange(backend io.ReadWriter, command string, limit int, malformed error) (Greeting, error) {
	if _, err := io.WriteString(backend, command); err != nil {
		return Greeting{}, err
	}
	return readReply(backend, limit, malformed)
}

// stepped is the error of a step, nil where it went well.
func stepped(step string, reply Greeting, err error) error {
	switch {
	case err != nil:
		return &StepError{Step: step, Err: err}
	case !reply.Ready():
		return refused(step, reply)
	}
	return nil
}

// refused is the error of a step that a reply did not allow. The text is the
// backend's, and so it is quoted.
func refused(step string, reply Greeting) error {
	text := bytes.TrimSpace(reply.Text)
	shown := strings.ToValidUTF8(string(text[:min(len(text), maxHostname)]), "?")
	return &StepError{Step: step, Code: reply.Code, Reply: shown, Err: fmt.Errorf("%w: %q", errUnready, shown)}
}
