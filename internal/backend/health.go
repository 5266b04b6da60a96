package backend

import (
	"errors"
	"syscall"
	"time"
)

// State is what is known of an address.
type State int

// The states of an address. Clients go to those that are not down.
const (
	Unknown State = iota // neither checked nor connected to as yet
	Up
	Down
)

func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	}
	return "unknown"
}

// The back-off of an address that refused a connection: how long until a
// client tries it again, if no check has by then.
const (
	minBackOff = time.Second
	maxBackOff = 30 * time.Second
)

// health is what connections and checks tell of an address. Its methods report
// whether the state changed.
type health struct {
	state State
	since time.Time // when the state began; zero for Unknown
	// held is a Down that only checks end. Otherwise it was a connection that
	// failed, and one that succeeds is enough.
	held    bool
	streak  int // checks in a row that speak against the state
	backOff time.Duration
	retry   time.Time // when a client may try an address that is down and not held
	good    time.Time // the newest success
	err     error     // the newest failure
	failed  time.Time // when that was
}

// usable tells whether clients go there before all others were tried.
func (h *health) usable(now time.Time) bool {
	return h.state != Down || !h.held && !now.Before(h.retry)
}

// try lets one client alone try an address that is down.
func (h *health) try(now time.Time) {
	if h.state == Down && h.usable(now) {
		h.backOff = min(2*h.backOff, maxBackOff)
		h.retry = now.Add(h.backOff)
	}
}

func (h *health) set(state State, now time.Time) bool {
	h.state, h.since = state, now
	h.held, h.streak, h.backOff = false, 0, minBackOff
	return true
}

func (h *health) connected(now time.Time) bool {
	h.good = now
	return (h.state == Unknown || h.state == Down && !h.held) && h.set(Up, now)
}

func (h *health) connectFailed(now time.Time, err error) bool {
	h.err, h.failed = err, now
	changed := h.state != Down && h.set(Down, now)
	h.retry = now.Add(h.backOff)
	return changed
}

func (h *health) checkSucceeded(now time.Time, rise int) bool {
	h.good = now
	if h.state == Up {
		h.streak = 0
		return false
	}
	h.streak++
	if h.state == Down && h.held && h.streak < rise {
		return false
	}
	return h.set(Up, now)
}

func (h *health) checkFailed(now time.Time, err error, fall int) bool {
	h.err, h.failed = err, now
	if h.state == Down && h.held {
		h.streak = 0
		return false
	}
	h.streak++
	if h.state != Unknown && h.streak < fall {
		return false
	}
	changed := h.state != Down && h.set(Down, now)
	h.held, h.streak = true, 0
	return changed
}

// isOurs tells of a failure to connect that says nothing of the other side. That
// no address of ours is available is one where ports ran out; where nothing was
// ever reached, there is no way there, such as to ::1 without IPv6.
func (h *health) isOurs(err error) bool {
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return !h.good.IsZero()
	}
	for _, ours := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, ours) {
			return true
		}
	}
	return false
}
