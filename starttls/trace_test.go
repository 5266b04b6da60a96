package starttls_test

import (
	"net/mail"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// received returns the header that a session's message gets.
func received(t *testing.T, hello string, config starttls.FilterConfig) string {
	t.Helper()
	var header string
	synctest.Test(t, func(t *testing.T) {
		client, backend := newPeer(), newPeer()
		f := starttls.NewFilter(client.other(), backend.other(), config)
		var both sync.WaitGroup
		both.Go(func() { f.CopyCommands() })
		both.Go(func() { f.CopyReplies() })
		client.out.Write([]byte(hello + "DATA\r\n"))
		synctest.Wait()
		backend.in.take()
		if hello != "" {
			backend.out.Write([]byte("250 backend\r\n"))
		}
		backend.out.Write([]byte("354 go\r\n"))
		synctest.Wait()
		header = string(backend.in.take())
		client.out.Close()
		backend.out.Close()
		both.Wait()
	})
	return header
}

// headerText are the bytes of a header that need no quotes; a question mark
// stands for all others.
var headerText = regexp.MustCompile(`^Received: from (\S+|\[[^\[\]\s]*\]) \([^()]*\)(?:\s\(using [^()\\]*\))? ` +
	`by \S+ with E?SMTP(?:SA?)? id [^\s;]+; [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} [-+][0-9]{4}\r\n$`)

func TestTraceHeader(t *testing.T) {
	const long = 1500
	evil := "a\r\nBcc: x@y\x00(b)\\\"<c>; d\xff"
	tests := map[string]struct {
		hello string
		host  string
		id    string
		trace starttls.Trace
		holds []string
	}{
		"usual": {"EHLO client.example\r\n", testHost, testID, *testTrace("192.0.2.1"),
			[]string{"from client.example ([192.0.2.1])", "TLS_AES_128_GCM_SHA256 for server name mail.example.com)", "with ESMTPS id s1;"}},
		"zone":     {"EHLO x\r\n", testHost, testID, *testTrace("fe80::1%eth0"), []string{"([IPv6:fe80::1])"}},
		"mapped":   {"EHLO x\r\n", testHost, testID, *testTrace("::ffff:192.0.2.1"), []string{"([192.0.2.1])"}},
		"nothing":  {"", "", "", starttls.Trace{}, []string{"from unknown (unknown)", "using unknown with cipher unknown)", "by unknown with SMTP id unknown;"}},
		"literal":  {"EHLO [IPv6:2001:db8::1]\r\n", testHost, testID, *testTrace("192.0.2.1"), []string{"from [IPv6:2001:db8::1] ("}},
		"brackets": {"EHLO [a](b)[c]\r\n", testHost, testID, *testTrace("192.0.2.1"), []string{"from [a??b??c] ("}},
		"two words": {"EHLO a b\r\n", testHost, testID, *testTrace("192.0.2.1"),
			[]string{"from a?b ("}},
		"long": {"EHLO " + strings.Repeat("h", long) + "\r\n", strings.Repeat("b", long), strings.Repeat("i", long), starttls.Trace{
			Client: netip.IPv6Loopback(), TLSVersion: strings.Repeat("v", long), Cipher: strings.Repeat("c", long), ServerName: strings.Repeat("s", long),
		}, []string{"\tby " + "\r\n"}},
		"hostile": {"EHLO a(b)\x00\xff;<c>\\\r\n", evil, evil, starttls.Trace{
			Client: netip.IPv6Loopback(), TLSVersion: evil, Cipher: evil, ServerName: evil,
		}, []string{"from a?b?????c?? ("}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			header := received(t, test.hello, starttls.FilterConfig{Hostname: test.host, ID: test.id, Trace: &test.trace})
			for _, line := range strings.Split(strings.TrimSuffix(header, "\r\n"), "\r\n") {
				if len(line) > 78 && len(strings.Fields(line)) > 1 || len(line) > 998 || line == "" || strings.ContainsAny(line, "\r\n") {
					t.Errorf("line of %d bytes: %q", len(line), line)
				}
			}
			parsed, err := mail.ReadMessage(strings.NewReader(header + "Subject: x\r\n\r\n"))
			if err != nil || len(parsed.Header) != 2 {
				t.Fatalf("%v, %q", err, header)
			}
			if !headerText.MatchString("Received: " + parsed.Header.Get("Received") + "\r\n") {
				t.Errorf("%q", header)
			}
			unfolded := strings.ReplaceAll(header, "\r\n\t", " ")
			for _, want := range test.holds {
				if !strings.Contains(unfolded, want) && !strings.Contains(header, strings.TrimSpace(want)) {
					t.Errorf("%q is not in %q", want, header)
				}
			}
			if _, date, _ := strings.Cut(unfolded, "; "); test.trace.Now != nil && date != "Fri, 02 Jan 2026 03:04:05 -0100\r\n" {
				t.Errorf("the date is %q", date)
			}
		})
	}
}

// Without a clock of the caller's the date is now.
func TestTraceClock(t *testing.T) {
	header := received(t, "", starttls.FilterConfig{Trace: &starttls.Trace{}})
	_, date, _ := strings.Cut(strings.TrimSpace(header), ";\r\n\t")
	if _, err := time.Parse(time.RFC1123Z, date); err != nil {
		t.Errorf("%v: %q", err, header)
	}
}

// A message comes behind the header as it was sent, whatever its first bytes,
// and however they come.
func TestTraceChangesNoMessage(t *testing.T) {
	for _, message := range []string{"", "\r\n", " folded\r\n", "..\r\n", "\x00\xff\r\n", "Received: x\r\n\r\ntext\r\n", strings.Repeat("0123456789\r\n", 5000)} {
		for seed := range uint64(5) {
			client := "EHLO x\r\nMAIL FROM:<a@b>\r\nDATA\r\n" + message + ".\r\nQUIT\r\n"
			var out outcome
			synctest.Test(t, func(*testing.T) { out = relay([]byte(client), strict, seed, withTrace) })
			rest, at := withoutTraces(out.toBackend)
			if string(rest) != client || !slices.Equal(at, []int{len("EHLO x\r\nMAIL FROM:<a@b>\r\nDATA\r\n")}) || out.messages != 1 {
				t.Errorf("%d messages, headers at %d\nC: %.80q\nB< %.300q", out.messages, at, client, out.toBackend)
			}
		}
	}
}
