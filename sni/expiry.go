package sni

import (
	"slices"
	"strings"
	"time"
)

// Expiry is when the certificate of one key type expires; of several with one
// key type, the first.
type Expiry struct {
	KeyType  string // "rsa", "ecdsa" or "ed25519"
	NotAfter time.Time
}

// expiry is an Expiry in 16 bytes.
type expiry struct {
	notAfter int64 // in seconds since 1970
	kind     uint8 // index in keyTypes
	stage    uint8 // how many of stages were told
}

func (e expiry) public() Expiry {
	return Expiry{KeyType: keyTypes[e.kind], NotAfter: time.Unix(e.notAfter, 0).UTC()}
}

// stages are the days before the end of a certificate at which it is told.
var stages = []int{30, 14, 7, 3, 1, 0}

const day = 24 * time.Hour

// expiryEvery is how often all dates are compared with the clock: a hundred
// thousand take a few milliseconds.
const expiryEvery = time.Hour

// due returns how many stages are reached.
func (e expiry) due(now time.Time) (reached uint8) {
	left := time.Unix(e.notAfter, 0).Sub(now)
	for _, days := range stages {
		if left <= time.Duration(days)*day {
			reached++
		}
	}
	return reached
}

// expiriesOf returns the dates of an identity, in the order of key types.
func expiriesOf(id *Identity) []expiry {
	var all []expiry
	for _, cert := range id.Certificates {
		kind, at := slices.Index(keyTypes, keyType(cert.Leaf)), cert.Leaf.NotAfter.Unix()
		if kind < 0 {
			continue
		}
		i := slices.IndexFunc(all, func(e expiry) bool { return e.kind == uint8(kind) })
		if i < 0 {
			all = append(all, expiry{notAfter: at, kind: uint8(kind)})
		} else {
			all[i].notAfter = min(all[i].notAfter, at)
		}
	}
	slices.SortFunc(all, func(a, b expiry) int { return strings.Compare(keyTypes[a.kind], keyTypes[b.kind]) })
	return slices.Clip(all)
}

// learn notes when the certificates of a folder expire, and tells it if it is
// news. The caller holds publishing.
func (s *Store) learn(e *entry, id *Identity) {
	now := expiriesOf(id)
	if e.known == nil {
		e.known = &facts{}
	}
	same := slices.EqualFunc(now, e.known.expiries, func(a, b expiry) bool { return a.kind == b.kind && a.notAfter == b.notAfter })
	if same {
		return
	}
	for i := range now { // what stays is not told again
		for _, old := range e.known.expiries {
			if old.kind == now[i].kind && old.notAfter == now[i].notAfter {
				now[i].stage = old.stage
			}
		}
	}
	e.known.expiries = now
	var all []Expiry
	for _, each := range now {
		all = append(all, each.public())
	}
	s.events.Expiry(e.folder, all)
	s.tellStages(e, time.Now())
}

// tellStages tells of certificates that came closer to their end: the last
// stage only, if there were several since. The caller holds publishing.
func (s *Store) tellStages(e *entry, now time.Time) {
	for i := range e.known.expiries {
		each := &e.known.expiries[i]
		if due := each.due(now); due > each.stage {
			each.stage = due
			s.events.Expiring(e.folder, each.public(), stages[due-1])
		}
	}
}

// tellExpiring compares all dates with the clock.
func (s *Store) tellExpiring() {
	now := time.Now()
	for _, e := range s.index.Load().entries {
		s.tell(func() {
			if e.known != nil && !e.removed() {
				s.tellStages(e, now)
			}
		})
	}
}
