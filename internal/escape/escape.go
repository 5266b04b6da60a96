// Package escape makes text from strangers fit to be shown.
package escape

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxShown is how much of a text goes into one field of a log line.
const maxShown = 255

// Field makes text fit for a field of a log line: cut to 255 bytes, and then
// escaped.
func Field(text string) string {
	if len(text) > maxShown {
		text = text[:maxShown]
	}
	return Text(text, "")
}

// Text escapes, as Go would in a string, every character that is not graphic,
// but for those in keep: control characters, the invisible ones that turn the
// direction of writing, and bytes that are not UTF-8. Text that has none is
// returned as it is.
func Text(text, keep string) string {
	fine := func(r rune) bool { return unicode.IsGraphic(r) || strings.ContainsRune(keep, r) }
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !fine(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case fine(r):
			b.WriteString(text[:size])
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return b.String()
}
