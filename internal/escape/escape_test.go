package escape_test

import (
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
)

func TestText(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, keep, want string }{
		{"plain", "mail.example.com", "", "mail.example.com"},
		{"quotes stay", `say "hello" \ there`, "", `say "hello" \ there`},
		{"other scripts stay", "Grüße, 日本", "", "Grüße, 日本"},
		{"line ends", "a\r\nlevel=error", "", `a\r\nlevel=error`},
		{"terminal sequence", "\x1b[31mred", "", `\x1b[31mred`},
		{"NUL", "a\x00b", "", `a\x00b`},
		{"not UTF-8", "a\xff\xfeb", "", `a\xff\xfeb`},
		{"direction override", "a\u202eb", "", `a\u202eb`},
		{"kept", "a\tb\nc\r", "\t\n", "a\tb\nc" + `\r`},
		{"empty", "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := escape.Text(test.text, test.keep); got != test.want {
				t.Errorf("Text(%q) = %q, want %q", test.text, got, test.want)
			}
		})
	}
}

// TestR84_FieldIsCut: 60 kB of a client's text must not reach a log.
func TestR84_FieldIsCut(t *testing.T) {
	t.Parallel()
	if got := escape.Field(strings.Repeat("n", 60_000)); got != strings.Repeat("n", 255) {
		t.Errorf("a field of %d bytes, want 255", len(got))
	}
	// Cut within a character, what is left of it is no character.
	if got, want := escape.Field(strings.Repeat("n", 254)+"ü"), strings.Repeat("n", 254)+`\xc3`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCleanTextIsNotCopied(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { escape.Field("mail.example.com") }); n != 0 {
		t.Errorf("%v allocations for clean text", n)
	}
}
