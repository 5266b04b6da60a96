package test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python is Debian's, which has Debian's aiosmtpd; another may stand first in
// the path.
const python = "/usr/bin/python3"

// aiosmtpd is the oracle for PROXY headers: an SMTP server that tells how it,
// whose decoder is not ours, read each header.
type aiosmtpd struct {
	*process
	address string
}

// oracleEvent is one line of the oracle.
type oracleEvent struct {
	Event           string
	Port            int
	Peer            int // port that the proxy dialled from, the same for a session's events
	Valid           bool
	Error           string
	Version         int
	Command         int // 0 LOCAL, 1 PROXY; 0 in version 1
	Family          int // 1 IPv4, 2 IPv6
	Source          string
	SourcePort      int `json:"source_port"`
	Destination     string
	DestinationPort int `json:"destination_port"`
	TLVs            map[string]any
	CRC             string // correct, wrong, absent
	Length          int
	Raw             string
	Helo            string
	Sender          string
	Recipients      []string
	Content         string
}

// raw is the header as it came.
func (e oracleEvent) raw(t testing.TB) []byte { return unhex(t, e.Raw) }

// content is the message as it came.
func (e oracleEvent) content(t testing.TB) []byte { return unhex(t, e.Content) }

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tlv is the text of a TLV, and whether the header had it.
func (e oracleEvent) tlv(name string) (string, bool) {
	value, found := e.TLVs[name]
	return fmt.Sprint(value), found
}

func startAiosmtpd(t testing.TB) *aiosmtpd {
	t.Helper()
	need(t, "aiosmtpd")
	command := exec.Command(python, "-u", filepath.Join("testdata", "oracle.py"))
	a := &aiosmtpd{process: startProcess(t, "aiosmtpd", filepath.Join(t.TempDir(), "aiosmtpd.log"), command)}
	eventually(t, "aiosmtpd listens", func() bool {
		for _, event := range a.events(t) {
			if event.Event == "listening" {
				a.address = fmt.Sprintf("127.0.0.1:%d", event.Port)
			}
		}
		return a.address != ""
	})
	return a
}

// events reads what the oracle has told until now.
func (a *aiosmtpd) events(t testing.TB) []oracleEvent {
	t.Helper()
	var events []oracleEvent
	for line := range strings.Lines(a.logged()) {
		if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}\n") {
			continue // a traceback, or a line being written
		}
		var event oracleEvent
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("line of aiosmtpd: %v: %s", err, line)
		}
		events = append(events, event)
	}
	return events
}

// waitSession waits for the message sent by the EHLO name, and returns the
// header of its session and the message.
func (a *aiosmtpd) waitSession(t testing.TB, helo string) (header, message oracleEvent) {
	t.Helper()
	eventually(t, "aiosmtpd has a message from "+helo, func() bool {
		events := a.events(t)
		for i, event := range events {
			if event.Event != "message" || event.Helo != helo {
				continue
			}
			for _, earlier := range events[:i] {
				if earlier.Event == "proxy" && earlier.Peer == event.Peer {
					header = earlier // the last one: a port can come again
				}
			}
			message = event
			return header.Event != ""
		}
		return false
	})
	return header, message
}
