package starttls_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Transcripts are described in testdata/README.md.

const (
	testHost = "mx.example.com"
	testID   = "s1"
)

// group is consecutive lines of a transcript that say the same.
type group struct {
	line int    // of the first one, in the file
	kind string // "C:", "S:", "B<", "B>" or "!"
	text string // bytes, or the words of a directive
}

func readTranscript(t testing.TB, path string) []group {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var groups []group
	joins := false
	for i, line := range strings.Split(string(file), "\n") {
		kind, text, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, "#"):
			continue
		case line == "":
			joins = false
			continue
		case kind == "!":
			groups = append(groups, group{i + 1, kind, text})
			joins = false
			continue
		case kind != "C:" && kind != "S:" && kind != "B<" && kind != "B>":
			t.Fatalf("%s:%d: unknown kind %q", path, i+1, kind)
		}
		text = decodeLine(t, text)
		if last := len(groups) - 1; joins && groups[last].kind == kind {
			groups[last].text += text
			continue
		}
		groups = append(groups, group{i + 1, kind, text})
		joins = true
	}
	return groups
}

var repetition = regexp.MustCompile(`\{([^{}]+)\*([0-9]+)\}`)

func decodeLine(t testing.TB, text string) string {
	t.Helper()
	text, open := strings.CutSuffix(text, `\c`)
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	text = repetition.ReplaceAllStringFunc(text, func(s string) string {
		m := repetition.FindStringSubmatch(s)
		n, _ := strconv.Atoi(m[2])
		return strings.Repeat(m[1], n)
	})
	if open {
		return text
	}
	return text + "\r\n"
}

// journal is what went over the connections, for the reader of a failure.
type journal struct {
	t     testing.TB
	lines []string
}

func (j *journal) note(kind, text string) {
	for line := range strings.Lines(text) {
		if len(line) > 200 {
			line = fmt.Sprintf("%s… (%d bytes)", line[:200], len(line))
		}
		j.lines = append(j.lines, fmt.Sprintf("%s %q", kind, line))
	}
}

func (j *journal) fatalf(format string, args ...any) {
	j.t.Helper()
	j.t.Fatalf(format+"\n%s", append(args, strings.Join(j.lines, "\n"))...)
}

// TestTranscripts plays every file, so that none is forgotten.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.smtp")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		play(t, filepath.Base(file))
	}
}
