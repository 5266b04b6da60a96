package starttls

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ProbeError tells at which step a Probe ended.
type ProbeError struct {
	Step string // "greeting", "EHLO" or "QUIT"
	Code int    // of the reply that refused; 0 where no reply came
	// Reply is the text of that reply, cut to 255 bytes, and as the backend
	// sent it but for bytes that are not UTF-8.
	Reply string
	Err   error
}

func (e *ProbeError) Error() string { return e.Step + ": " + e.Err.Error() }
func (e *ProbeError) Unwrap() error { return e.Err }

// errUnready is the cause where a backend answered, but not with 2yz.
var errUnready = errors.New("backend refuses")

// Probe asks a backend on a fresh connection, behind its PROXY header, who it
// is and what it offers: it reads the greeting, says EHLO with the given domain
// name, reads the reply, says QUIT and reads the reply to that. A backend that
// hangs up in place of the last reply is fine too.
//
// The error is a *ProbeError. Where its step is QUIT, the backend's only fault
// is there, and the identity is what it offers. The replies may have 8 KiB, the
// one to EHLO 64 KiB.
//
// The caller sets the deadline and closes the connection.
func Probe(backend io.ReadWriter, name string) (Identity, error) {
	greeting, err := ReadGreeting(backend)
	if err := probed("greeting", greeting, err); err != nil {
		return Identity{}, err
	}
	reply, err := exchange(backend, "EHLO "+name+"\r\n", maxEHLOReply, ErrHello)
	if err := probed("EHLO", reply, err); err != nil {
		return Identity{}, err
	}
	identity := ParseEHLO(reply.Text)
	reply, err = exchange(backend, "QUIT\r\n", maxGreeting, errQuit)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return identity, nil
	}
	return identity, probed("QUIT", reply, err)
}

var errQuit = errors.New("backend's answer to QUIT is not an SMTP reply")

// exchange says one command and takes the reply.
func exchange(backend io.ReadWriter, command string, limit int, malformed error) (Greeting, error) {
	if _, err := io.WriteString(backend, command); err != nil {
		return Greeting{}, err
	}
	return readReply(backend, limit, malformed)
}

// probed is the error of a step, nil where it went well.
func probed(step string, reply Greeting, err error) error {
	switch {
	case err != nil:
		return &ProbeError{Step: step, Err: err}
	case !reply.Ready():
		text := bytes.TrimSpace(reply.Text)
		shown := strings.ToValidUTF8(string(text[:min(len(text), maxHostname)]), "?")
		// Quoted in the error, because the text is the backend's.
		return &ProbeError{Step: step, Code: reply.Code, Reply: shown, Err: fmt.Errorf("%w: %q", errUnready, shown)}
	}
	return nil
}
