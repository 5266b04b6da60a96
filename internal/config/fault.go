package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong in a configuration file.
type Fault struct {
	File   string // or the variable of the environment; "" where neither says it
	Line   int    // from 1; 0 means the file as a whole
	Column int    // from 1, in characters; 0 means the line as a whole
	Text   string
}

// String gives "file:line:column: text", as compilers do, so that editors can
// jump there. What is not known is left out.
func (f Fault) String() string {
	switch {
	case f.File == "":
		return f.Text
	case f.Line == 0:
		return fmt.Sprintf("%s: %s", f.File, f.Text)
	case f.Column == 0:
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text)
}

// Faults is the error that [Parse] returns: every fault of a file, in the
// order of their places.
type Faults []Fault

// Error gives one fault a line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// sort puts the faults into file order. Those of one place keep their order.
func (fs Faults) sort() {
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// unknownKey is the text of a fault; near is the key that was meant, or "".
func unknownKey(key, near string, keys []string) string {
	if near != "" {
		return fmt.Sprintf("unknown key %q: did you mean %q?", key, near)
	}
	return fmt.Sprintf("unknown key %q: the keys here are %s", key, strings.Join(keys, ", "))
}
