package main

import (
	"fmt"
	"hash/crc64"
	"sync"
)

// ledger has for each message what its client and what the backends know of it.
type ledger struct {
	mu       sync.Mutex
	last     uint64
	messages map[uint64]*entry
	foreign  []string // what came to a backend and no client began
}

// entry is one message.
type entry struct {
	sum      uint64 // of all that the client means to send
	finished bool   // the client has sent its end, or was about to
	accepted bool   // the client got 250 for it
	taken    uint8  // times that a backend said 250 to it
	damaged  bool   // a backend said so to something else than was sent
}

var table = crc64.MakeTable(crc64.ECMA)

func newLedger() *ledger { return &ledger{messages: make(map[uint64]*entry)} }

// begin gives a message its number.
func (l *ledger) begin() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.messages[l.last] = new(entry)
	return l.last
}

// sends says what the message is. It comes before its first byte.
func (l *ledger) sends(id, sum uint64) { l.change(id, func(e *entry) { e.sum = sum }) }

// finishes says that the end of the message is about to be sent.
func (l *ledger) finishes(id uint64) { l.change(id, func(e *entry) { e.finished = true }) }

// accepts says that the client got 250 for the message.
func (l *ledger) accepts(id uint64) { l.change(id, func(e *entry) { e.accepted = true }) }

// takes says that a backend has the message, before it tells the client.
func (l *ledger) takes(id, sum uint64) {
	l.change(id, func(e *entry) {
		e.taken++
		e.damaged = e.damaged || e.sum != sum
	})
}

func (l *ledger) change(id uint64, do func(*entry)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.messages[id]; e != nil {
		do(e)
		return
	}
	l.foreign = append(l.foreign, fmt.Sprint(id))
}

// verdict is what the ledger comes to.
type verdict struct {
	begun, abandoned, accepted, taken int
	unknown                           int // finished, but the client was not told; taken or not
	violations                        []string
}

// judge looks at all messages when nothing is on its way any more.
func (l *ledger) judge() (v verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.begun = len(l.messages)
	for id, e := range l.messages {
		wrong := func(what string) { v.violations = append(v.violations, fmt.Sprintf("message %d %s", id, what)) }
		v.taken += int(e.taken)
		switch {
		case e.accepted:
			v.accepted++
		case e.finished:
			v.unknown++
		default:
			v.abandoned++
		}
		if e.accepted && e.taken == 0 {
			wrong("was lost: its client got 250, and no backend has it")
		}
		if e.taken > 1 {
			wrong(fmt.Sprintf("was taken %d times", e.taken))
		}
		if e.damaged {
			wrong("was taken in part, or changed")
		}
		if e.taken > 0 && !e.finished {
			wrong("was taken, although its client abandoned it")
		}
	}
	for _, id := range l.foreign {
		v.violations = append(v.violations, "message "+id+" was taken, and nobody sent it")
	}
	return v
}
