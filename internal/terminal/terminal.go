// Package terminal shows what commands print to a person, and to a program
// where there is no person: colours, tables and progress on a terminal, plain
// text with tabs elsewhere.
//
// Text from strangers has to be made fit by package escape before: nothing here
// looks into it.
package terminal

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Output is where a command prints to. The zero value is not of use.
type Output struct {
	io.Writer
	width  int // in columns; 0 where it is no terminal
	colour bool
}

// defaultWidth is that of a terminal that does not tell, as a serial line.
const defaultWidth = 80

// New finds out what w is. Colours are for terminals only, and for none where
// NO_COLOR is set in the environment (no-color.org) or TERM is "dumb".
func New(w io.Writer) Output {
	o := Output{Writer: w}
	file, ok := w.(*os.File)
	if !ok {
		return o
	}
	fd := int(file.Fd())
	if _, err := unix.IoctlGetTermios(fd, unix.TCGETS); err != nil {
		return o
	}
	o.width = defaultWidth
	if size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		o.width = int(size.Col)
	}
	o.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return o
}

// Coloured is an output that shows colours, whatever it is.
func Coloured(w io.Writer) Output { return Output{Writer: w, colour: true} }

// IsTerminal reports whether a person looks at it.
func (o Output) IsTerminal() bool { return o.width > 0 }

// Colour is how a text stands out.
type Colour string

// The colours, by what they tell.
const (
	Plain Colour = ""
	Good  Colour = "32" // green
	Doubt Colour = "33" // yellow
	Bad   Colour = "31" // red
	Aside Colour = "36" // cyan
	Title Colour = "1"  // bold
)

// Paint returns text in a colour where colours are shown.
func (o Output) Paint(colour Colour, text string) string {
	if !o.colour || colour == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(colour) + "m" + text + "\x1b[0m"
}
