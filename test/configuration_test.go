package test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestR88_UnknownKeys are refused with their place and the key that was meant,
// by serve and by check, and all of them at once.
func TestR88_UnknownKeys(t *testing.T) {
	t.Parallel()
	good := setup{certificates: newCertificates(t), backend: "127.0.0.1:1"}.complete(t).yaml()
	for _, test := range []struct{ right, wrong, meant string }{
		{"rescan: 1m", "rescna: 1m", "rescan"},
		{"mode: implicit", "mod: implicit", "mode"},
		{"client_info: proxy-v2", "client-info: proxy-v2", "client_info"},
		{"starttls: required", "startls: required", "starttls"},
		{"format: json", "fromat: json", "format"},
		{"admin: {", "amin: {", "admin"},
		{"timeouts: {drain", "timeouts: {drian", "drain"},
		{"tls: {", "tls: {handshake_timeuot: 5s, ", "handshake_timeout"},
	} {
		text := strings.Replace(good, test.right, test.wrong, 1)
		if text == good {
			t.Fatalf("the configuration has no %q", test.right)
		}
		file := filepath.Join(t.TempDir(), "config.yaml")
		writeFile(t, file, text)
		line, column := place(text, test.wrong)
		for _, command := range []string{"serve", "check"} {
			r := runBinary(t, command, "--config", file)
			r.requireCode(t, 1)
			fault := lineWith(r.output, fmt.Sprintf("%s:%d:%d: ", file, line, column))
			if !strings.Contains(fault, fmt.Sprintf("did you mean %q?", test.meant)) {
				t.Errorf("%s does not tell what is meant by %q at line %d, column %d:\n%s", command, test.wrong, line, column, indent(r.output))
			}
		}
	}
	text := strings.NewReplacer("rescan:", "rescna:", "format:", "fromat:", "mode: starttls", "mode: starttsl").Replace(good)
	file := filepath.Join(t.TempDir(), "config.yaml")
	writeFile(t, file, text)
	r := runBinary(t, "serve", "--config", file)
	r.requireCode(t, 1)
	r.requireOutput(t, `"rescan"`, `"format"`, "starttsl")
}

// place finds where a key stands: what is new in the line, from its first
// letter on. Both count from 1.
func place(text, wrong string) (line, column int) {
	at := strings.Index(text, wrong)
	if key := strings.Index(wrong, "{") + 1; key > 0 && key < len(wrong) {
		at += key
	}
	before := text[:at]
	return strings.Count(before, "\n") + 1, at - strings.LastIndex(before, "\n")
}
