package proxy_test

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// faultKind is what a line does to a stream at one of its bytes.
type faultKind string

const (
	noFault faultKind = "none"
	delay   faultKind = "delay"   // the byte comes late
	trickle faultKind = "trickle" // it and those behind it come one at a time
	cut     faultKind = "cut"     // FIN behind what came before it, at once; the other direction stays
	reset   faultKind = "reset"   // RST in its place, to both ends
	stall   faultKind = "stall"   // it does not come, and nothing behind it
)

const (
	delayed       = 15 * time.Second // less than any timeout of the proxy and of the tests
	trickled      = 16               // bytes
	trickledEvery = 100 * time.Millisecond
)

// harmless tells that nothing is lost by the fault.
func (k faultKind) harmless() bool { return k == noFault || k == delay || k == trickle }

// fault is one fault of one session.
type fault struct {
	kind faultKind
	down bool // in the direction from the server
	at   int  // the byte
}

// faultyLine is two connections, joined by a middle that has a fault.
type faultyLine struct {
	fault
	front, back *memoryConn     // the middle's ends
	passed      [2]bytes.Buffer // up and down
	struck      bool
	running     sync.WaitGroup
}

// newFaultyLine returns the ends of the line for who connects and for who is connected to.
func newFaultyLine(f fault, port int) (line *faultyLine, outer, inner *memoryConn) {
	line = &faultyLine{fault: f}
	outer, line.front = memoryPipe(port, memoryBuffer)
	line.back, inner = memoryPipe(port, memoryBuffer)
	line.running.Go(func() {
		var both sync.WaitGroup
		both.Go(func() { line.pump(line.front, line.back, 0) })
		both.Go(func() { line.pump(line.back, line.front, 1) })
		both.Wait()
		line.front.Close()
		line.back.Close()
	})
	return line, outer, inner
}

// lengths are what passed, up and down.
func (l *faultyLine) lengths() [2]int { return [2]int{l.passed[0].Len(), l.passed[1].Len()} }

// pump carries one direction to its end.
func (l *faultyLine) pump(from, to *memoryConn, direction int) {
	passed := &l.passed[direction]
	faulty := l.down == (direction == 1) && l.kind != noFault
	pass := func(p []byte) error {
		n, err := to.Write(p)
		passed.Write(p[:n])
		return err
	}
	var buf [4096]byte
	for {
		if faulty && l.kind == cut && l.at == passed.Len() {
			l.strike(from, to, new([]byte), 0, pass)
			return
		}
		n, err := from.Read(buf[:])
		part := buf[:n]
		if rest := l.at - passed.Len(); faulty && rest < n {
			if pass(part[:rest]) != nil || !l.strike(from, to, &part, rest, pass) {
				return
			}
			faulty = false
		}
		if n > 0 && pass(part) != nil {
			from.Reset()
			return
		}
		switch err {
		case nil:
		case io.EOF:
			to.CloseWrite()
			return
		default:
			to.Reset()
			return
		}
	}
}

// strike does the fault to what is left of a part. It reports whether the
// stream goes on, with what it leaves of the part.
func (l *faultyLine) strike(from, to *memoryConn, part *[]byte, at int, pass func([]byte) error) bool {
	*part, l.struck = (*part)[at:], true
	switch l.kind {
	case delay:
		time.Sleep(delayed)
	case trickle:
		for i := 0; i < trickled && len(*part) > 0; i++ {
			time.Sleep(trickledEvery)
			if pass((*part)[:1]) != nil {
				from.Reset()
				return false
			}
			*part = (*part)[1:]
		}
	case cut:
		to.CloseWrite()
		io.Copy(io.Discard, from)
		return false
	case reset:
		from.Reset()
		to.Reset()
		return false
	case stall:
		io.Copy(io.Discard, from)
		to.CloseWrite()
		return false
	}
	return true
}
