package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// faultsOf parses text and gives its faults, one a line, without the name of
// the file.
func faultsOf(t *testing.T, data []byte) string {
	t.Helper()
	_, err := config.Parse("F", data)
	if err == nil {
		return ""
	}
	var faults config.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("the error is a %T, want config.Faults", err)
	}
	var text strings.Builder
	for _, fault := range faults {
		line := strings.TrimPrefix(fault.String(), "F:")
		text.WriteString(strings.TrimPrefix(line, " ") + "\n")
	}
	return text.String()
}

// Each bad file begins with all the faults that it is to have, as comments.
func TestEveryFaultOfABadFileIsReported(t *testing.T) {
	t.Parallel()
	for _, file := range glob(t, "testdata/bad/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data := read(t, file)
			var want strings.Builder
			for line := range strings.Lines(string(data)) {
				text, ok := strings.CutPrefix(line, "# want: ")
				if !ok {
					break
				}
				want.WriteString(text)
			}
			if want.Len() == 0 {
				t.Fatal("the file has no \"# want: \" line")
			}
			if got := faultsOf(t, data); got != want.String() {
				t.Errorf("got:\n%swant:\n%s", got, want.String())
			}
		})
	}
}

// R88: the proxy refuses to start on unknown configuration keys.
func TestR88_UnknownKeyIsRefused(t *testing.T) {
	t.Parallel()
	const (
		head = "certificates: {directory: /certs"
		mid  = "}\nlisteners:\n  - {name: a, address: \":465\", mode: starttls, tls: {alpn: strict"
		rest = "}}\nbackends: {mta: {addresses: [\"127.0.0.1:25\"]}}\n"
	)
	tests := []struct{ name, text, want string }{
		{"none", head + mid + rest, ""},
		{
			"at the top", head + mid + rest + "quotas: {}\n",
			"5:1: unknown key \"quotas\": the keys here are certificates, tls, listeners, backends, routes, limits, timeouts, log, admin, process\n",
		},
		{"in a group", head + ", ttl: 1" + mid + rest, "1:35: unknown key \"ttl\": the keys here are directory, default, cache, rescan\n"},
		{"deep in a list", head + mid + ", min_verison: TLSv1.2" + rest, "3:68: unknown key \"min_verison\": did you mean \"min_version\"?\n"},
		{"without a value", head + mid + rest + "log: {colour: }\n", "5:7: unknown key \"colour\": the keys here are level, format\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := faultsOf(t, []byte(tt.text)); got != tt.want {
				t.Errorf("got:\n%swant:\n%s", got, tt.want)
			}
		})
	}
}

func TestGuessIsMadeOnlyForANearKey(t *testing.T) {
	t.Parallel()
	tests := []struct{ key, guess string }{
		{"tsl", "tls"}, // swapped
		{"lgo", "log"},
		{"TLS", "tls"}, // in upper case
		{"listener", "listeners"},
		{"backend", "backends"},
		{"time_outs", "timeouts"},
		{"certs", ""},
		{"list", ""},
		{"lb", ""}, // half of log
		{"dns", ""},
		{"metrics", ""},
		{strings.Repeat("l", 1000), ""},
	}
	for _, tt := range tests {
		want := "did you mean \"" + tt.guess + "\"?"
		if tt.guess == "" {
			want = "the keys here are "
		}
		if got := faultsOf(t, []byte(tt.key+": {}\n")); !strings.Contains(got, want) {
			t.Errorf("%.20s: got %.200s, want %s", tt.key, got, want)
		}
	}
}

func TestFileThatCannotBeReadSaysWhatToDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	tests := []struct{ name, file, want string }{
		{"missing", filepath.Join(dir, "missing"), "no such file or directory: name the configuration file with --config"},
		{"a folder", dir, "is not a regular file: name the configuration file itself"},
		{"a device", os.DevNull, "is not a regular file"},
		{"empty", write("empty", nil), "the file is empty: it needs certificates, listeners and backends"},
		{"comments only", write("comments", []byte("# tls:\n")), "the file is empty"},
		{"too large", write("large", make([]byte, 1<<20+1)), "the file is larger than 1048576 bytes"},
		{"binary", write("binary", []byte("a\n\x00")), ":2: control character U+0000: remove it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg, err := config.Load(tt.file)
			if cfg != nil || err == nil {
				t.Fatalf("got %v, %v, want an error only", cfg, err)
			}
			if got := err.Error(); !strings.Contains(got, tt.file) || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want the name of the file and %q", got, tt.want)
			}
		})
	}
}

func TestMissingFileIsErrNotExist(t *testing.T) {
	t.Parallel()
	if _, err := config.Load(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

func TestFaultIsWrittenAsCompilersDo(t *testing.T) {
	t.Parallel()
	faults := config.Faults{
		{File: "c.yaml", Text: "whole file"},
		{File: "c.yaml", Line: 3, Text: "whole line"},
		{File: "c.yaml", Line: 3, Column: 7, Text: "value"},
	}
	if got, want := faults.Error(), "c.yaml: whole file\nc.yaml:3: whole line\nc.yaml:3:7: value"; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
