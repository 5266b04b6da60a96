package terminal

import (
	"fmt"
	"sync"
	"time"
)

// Waiting tells what a command waits for, in a line of its own that is taken
// away at the end. It shows nothing where the output is no terminal, nor within
// the first second of a wait.
type Waiting struct {
	out   Output
	mu    sync.Mutex
	timer *time.Timer
	wait  int // which one it is; after the last, none
	shown bool
}

// Waiting begins without a wait.
func (o Output) Waiting() *Waiting { return &Waiting{out: o} }

// For begins to wait for something, and ends the wait before.
func (w *Waiting) For(what string) {
	if !w.out.IsTerminal() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end()
	wait := w.wait
	w.timer = time.AfterFunc(quiet, func() { w.show(wait, what) })
}

func (w *Waiting) show(wait int, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wait != wait { // it ended just now
		return
	}
	w.shown = true
	fmt.Fprintf(w.out, "waiting: %s …", what)
}

// Done ends the last wait, before anything else is printed there.
func (w *Waiting) Done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end()
}

func (w *Waiting) end() {
	w.wait++
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.shown {
		fmt.Fprint(w.out, "\r\x1b[K")
	}
	w.shown = false
}
