package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// result is how a client program ended.
type result struct {
	command string
	output  string // standard output and standard error
	code    int
}

// requireCode fails the test where the program ended otherwise.
func (r result) requireCode(t testing.TB, code int) {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d, of: %s\n%s", r.code, code, r.command, indent(r.output))
	}
}

// requireOutput fails the test where a fragment is not in the output.
func (r result) requireOutput(t testing.TB, fragments ...string) {
	t.Helper()
	for _, fragment := range fragments {
		if !strings.Contains(r.output, fragment) {
			t.Errorf("no %q in the output (exit code %d) of: %s\n%s", fragment, r.code, r.command, indent(r.output))
		}
	}
}

// runProgram runs a program to its end, with nothing on standard input.
func runProgram(t testing.TB, program string, arguments ...string) result {
	t.Helper()
	return runFed(t, nil, program, arguments...)
}

// runFed runs a program to its end, with that on standard input.
func runFed(t testing.TB, input io.Reader, program string, arguments ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	return runUntil(ctx, t, input, program, arguments...)
}

// runUntil runs a program to its end, which has to come before that of ctx.
func runUntil(ctx context.Context, t testing.TB, input io.Reader, program string, arguments ...string) result {
	t.Helper()
	command := exec.CommandContext(ctx, program, arguments...)
	command.Env = append(os.Environ(), "LC_ALL=C", "HOME="+t.TempDir()) // no settings of the user's
	command.WaitDelay = time.Second
	command.Stdin = input
	output, err := command.CombinedOutput()
	shown := strings.Join(append([]string{filepath.Base(program)}, arguments...), " ")
	var failed *exec.ExitError
	if err != nil && (!errors.As(err, &failed) || ctx.Err() != nil) {
		t.Fatalf("%s: %v (%v)\n%s", shown, err, ctx.Err(), indent(string(output)))
	}
	return result{command: shown, output: string(output), code: command.ProcessState.ExitCode()}
}

// swaks speaks SMTP to host:port. Its exit code is 0 where a message was
// taken, 24 where no recipient was, 29 where TLS failed.
func swaks(t testing.TB, address string, arguments ...string) result {
	t.Helper()
	need(t, "swaks")
	return runProgram(t, "swaks", append([]string{"--server", address, "--timeout", "20"}, arguments...)...)
}

// swaksMessage is the arguments that make swaks send exactly these bytes,
// given with CRLF line ends. Asked to leave the data alone, swaks neither
// doubles dots nor ends the message; it only adds the last CRLF.
func swaksMessage(t testing.TB, message []byte) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "message.eml")
	writeFile(t, file, strings.TrimSuffix(string(dotStuffed(message)), "\r\n"))
	return []string{"--data", "@" + file, "--no-data-fixup"}
}

// sClient makes openssl s_client connect to host:port and leave at once.
func sClient(t testing.TB, address string, arguments ...string) result {
	t.Helper()
	need(t, "openssl")
	return runProgram(t, "openssl", append([]string{"s_client", "-connect", address}, arguments...)...)
}

// dotStuffed is a message as DATA carries it: dots at line starts doubled and
// the closing dot added (RFC 5321 section 4.5.2).
func dotStuffed(message []byte) []byte {
	stuffed := bytes.ReplaceAll(message, []byte("\r\n."), []byte("\r\n.."))
	if bytes.HasPrefix(message, []byte(".")) {
		stuffed = append([]byte("."), stuffed...)
	}
	return append(stuffed, ".\r\n"...)
}

var markers atomic.Int64

// newMarker is a word that no other message of the run holds.
func newMarker() string {
	return fmt.Sprintf("marker-%d-%d-end", os.Getpid(), markers.Add(1))
}

// awkwardMessage is a message with what careless relays spoil: dots at line
// starts, 8-bit bytes, spaces at line ends, empty lines at both ends, and a
// line of the full length. Line ends are CRLF; it has no dot-stuffing.
func awkwardMessage(recipient, marker string) []byte {
	var message bytes.Buffer
	fmt.Fprintf(&message, "From: Sender <sender@client.test>\r\nTo: %s\r\nSubject: %s\r\n", recipient, marker)
	message.WriteString("Date: Tue, 24 Nov 2026 05:00:00 +0000\r\nMessage-ID: <" + marker + "@client.test>\r\n")
	message.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	message.WriteString("\r\nGr\u00fc\u00dfe, \u65e5\u672c\r\n.\r\n..\r\n.one dot\r\n..two dots\r\nspaces at the end   \r\n\ttabs\t\r\n")
	message.WriteString("From here\r\nEHLO x\r\nSTARTTLS\r\nQUIT\r\n")
	message.WriteString(strings.Repeat("x", 996) + "\r\n")
	for i := range 400 { // more than one TLS record
		fmt.Fprintf(&message, "line %d of a longer text, so that the relay has to read more than once\r\n", i)
	}
	message.WriteString("the end\r\n\r\n")
	return message.Bytes()
}
