package terminal

import (
	"fmt"
	"time"
)

// Progress counts what is done, in a line that is overwritten. It shows nothing
// where the output is no terminal, and in the first second: most commands are
// through by then.
type Progress struct {
	out   Output
	what  string
	count int
	now   func() time.Time
	next  time.Time // to show the count
	shown bool
}

const (
	quiet     = time.Second
	showEvery = 200 * time.Millisecond
)

// Progress begins to count; what is the plural of what is counted and what is
// done with it, such as "folders read".
func (o Output) Progress(what string) *Progress { return o.progress(what, time.Now) }

func (o Output) progress(what string, now func() time.Time) *Progress {
	return &Progress{out: o, what: what, now: now, next: now().Add(quiet)}
}

// Step counts one.
func (p *Progress) Step() {
	p.count++
	if !p.out.IsTerminal() {
		return
	}
	if now := p.now(); !now.Before(p.next) {
		p.next, p.shown = now.Add(showEvery), true
		fmt.Fprintf(p.out, "\r%d %s", p.count, p.what)
	}
}

// Done takes the line away, before anything else is printed there.
func (p *Progress) Done() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	p.shown = false
}
