package terminal

import (
	"bufio"
	"strings"
	"unicode/utf8"
)

// Table is rows under a header. On a terminal the columns are aligned, which
// takes all rows in memory until Flush; elsewhere each row is one line with
// tabs between its cells.
type Table struct {
	out    Output
	to     *bufio.Writer
	rows   [][]Cell
	widths []int
}

// Cell is one text of a row.
type Cell struct {
	Text   string
	Colour Colour
}

// Cells are texts without colours.
func Cells(texts ...string) []Cell {
	cells := make([]Cell, len(texts))
	for i, text := range texts {
		cells[i].Text = text
	}
	return cells
}

// Table begins a table.
func (o Output) Table(header ...string) *Table {
	t := &Table{out: o, to: bufio.NewWriter(o)}
	cells := Cells(header...)
	for i := range cells {
		cells[i].Colour = Title
	}
	t.Row(cells...)
	return t
}

// Row adds a row.
func (t *Table) Row(cells ...Cell) {
	if !t.out.IsTerminal() {
		t.line(cells)
		return
	}
	for i, cell := range cells {
		if i == len(t.widths) {
			t.widths = append(t.widths, 0)
		}
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell.Text))
	}
	t.rows = append(t.rows, cells)
}

// noTabs keeps a text within its cell.
var noTabs = strings.NewReplacer("\t", " ", "\n", " ")

// line writes a row for a program. An error is told by Flush.
func (t *Table) line(cells []Cell) {
	for i, cell := range cells {
		if i > 0 {
			_ = t.to.WriteByte('\t')
		}
		_, _ = noTabs.WriteString(t.to, cell.Text)
	}
	_ = t.to.WriteByte('\n')
}

// Flush writes what is left of the table.
func (t *Table) Flush() error {
	t.fit()
	for _, cells := range t.rows {
		t.aligned(cells)
	}
	t.rows = nil
	return t.to.Flush()
}

const (
	gap      = 2  // columns between two cells
	narrowed = 12 // a column is not made narrower
)

// fit makes the widest column narrower, again and again, until a row is no
// wider than the terminal, or nothing is left to take. The first column stays:
// it says what the row is about.
func (t *Table) fit() {
	total := gap * (len(t.widths) - 1)
	for _, width := range t.widths {
		total += width
	}
	for ; total > t.out.width; total-- {
		widest := 0
		for i, width := range t.widths {
			if i > 0 && width > narrowed && (widest == 0 || width > t.widths[widest]) {
				widest = i
			}
		}
		if widest == 0 {
			return
		}
		t.widths[widest]--
	}
}

func (t *Table) aligned(cells []Cell) {
	for i, cell := range cells {
		text, length := cell.Text, utf8.RuneCountInString(cell.Text)
		if length > t.widths[i] {
			text, length = string([]rune(text)[:t.widths[i]-1])+"…", t.widths[i]
		}
		_, _ = t.to.WriteString(t.out.Paint(cell.Colour, text)) // an error is told by Flush
		if i < len(cells)-1 {
			_, _ = t.to.WriteString(strings.Repeat(" ", t.widths[i]-length+gap))
		}
	}
	_ = t.to.WriteByte('\n')
}
