package limit

import "context"

// gate holds a token for each turn that is taken. Who waits to send one is
// served in order. Other limits make another gate; what was taken or is waited
// for at the old one passes there.
type gate chan struct{}

// Turn is a handshake's leave to compute. It is taken for each piece of work
// and given back while the handshake waits for its client: so the turns bound
// how many handshakes compute at once, and a client that sends nothing holds
// none.
type Turn struct {
	limiter *Limiter
	taken   gate // nil while it is not
}

// Turn makes a turn that is not taken yet.
func (l *Limiter) Turn() Turn { return Turn{limiter: l} }

// Try takes the turn if there is one free. It reports whether it did.
func (t *Turn) Try() bool {
	g := *t.limiter.gate.Load()
	if t.taken != nil || cap(g) == 0 {
		return true
	}
	select {
	case g <- struct{}{}:
		t.taken = g
		return true
	default:
		return false
	}
}

// Take takes the turn, and waits for it as long as ctx goes on. It returns the
// error of ctx.
func (t *Turn) Take(ctx context.Context) error {
	g := *t.limiter.gate.Load()
	if t.taken != nil || cap(g) == 0 {
		return nil
	}
	select {
	case g <- struct{}{}:
		t.taken = g
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Yield gives the turn back, if it is taken.
func (t *Turn) Yield() {
	if t.taken != nil {
		<-t.taken
		t.taken = nil
	}
}
