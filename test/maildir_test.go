package test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maildir is the folder that a server delivers into.
type maildir string

// messages reads all that was delivered until now.
func (m maildir) messages(t testing.TB) [][]byte {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(string(m), "new"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var messages [][]byte
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(string(m), "new", entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, data)
	}
	return messages
}

// waitMessage waits for the message that holds the marker.
func (m maildir) waitMessage(t testing.TB, marker string) []byte {
	t.Helper()
	var found []byte
	eventually(t, "a message with "+marker+" is delivered", func() bool {
		for _, message := range m.messages(t) {
			if bytes.Contains(message, []byte(marker)) {
				found = message
				return true
			}
		}
		return false
	})
	return found
}

// traceFields are what a server may put above a message.
var traceFields = []string{"Return-Path:", "X-Original-To:", "Delivered-To:", "Envelope-To:", "Delivery-Date:", "Received:"}

// splitTrace cuts a delivered message into the trace header fields that the
// server put above it, and the message as it was sent.
func splitTrace(message []byte) (trace, sent []byte) {
	rest := message
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found || !startsTrace(line, len(rest) < len(message)) {
			break
		}
		rest = after
	}
	return message[:len(message)-len(rest)], rest
}

func startsTrace(line []byte, inside bool) bool {
	if inside && (bytes.HasPrefix(line, []byte(" ")) || bytes.HasPrefix(line, []byte("\t"))) {
		return true // a folded trace field
	}
	for _, field := range traceFields {
		if len(line) >= len(field) && strings.EqualFold(string(line[:len(field)]), field) {
			return true
		}
	}
	return false
}

// requireDelivered waits for the message with the marker and compares what
// stands below the trace fields with what was sent, byte for byte but for
// line ends, which a Maildir holds as LF. It returns the trace fields.
func (m maildir) requireDelivered(t testing.TB, marker string, sent []byte) string {
	t.Helper()
	trace, got := splitTrace(m.waitMessage(t, marker))
	want := bytes.ReplaceAll(sent, []byte("\r\n"), []byte("\n"))
	if !bytes.Equal(got, want) {
		t.Errorf("the delivered message differs from the sent one at byte %d:\ngot  %q\nwant %q", differsAt(got, want), got, want)
	}
	return string(trace)
}

func differsAt(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
