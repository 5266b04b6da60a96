package limit

import "time"

const (
	// memory is how long a handshake is remembered. A client may begin as many
	// at once as its rate gives in this time.
	memory = 2 * time.Second
	// maxRemembered bounds the clients of one generation. With more of them
	// than that in two seconds the oldest are forgotten, and have their rate
	// anew: a flood from so many addresses is not one that rates can hold.
	maxRemembered = 1 << 16
)

// history holds, of the clients that began handshakes of late, the time when
// their allowance is whole again: a token bucket in one number. No time lies
// further ahead than memory, so a generation that was not touched for so long
// says nothing any more and is dropped as a whole; nothing ever looks through
// all clients.
type history struct {
	began           time.Duration // the current generation
	current, before map[client]time.Duration
}

// allow counts a handshake of c at the time now, unless it is one too many.
func (h *history) allow(c client, rate int, now time.Duration) bool {
	h.age(now)
	whole, known := h.current[c]
	if !known {
		whole = h.before[c]
	}
	whole = max(whole, now) + time.Second/time.Duration(rate)
	if whole > now+memory {
		return false
	}
	h.current[c] = whole
	return true
}

// age begins a new generation when it is time.
func (h *history) age(now time.Duration) {
	switch old := now - h.began; {
	case h.current != nil && old < memory && len(h.current) < maxRemembered:
		return
	case old < 2*memory:
		h.before = h.current
	default:
		h.before = nil
	}
	h.current, h.began = make(map[client]time.Duration), now
}
