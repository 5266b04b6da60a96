package sni

import (
	"hash/maphash"
	"iter"
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

// facts are what is kept of a folder that was read, loaded or not. They have
// the zero value before.
type facts struct {
	told     uint64 // hash of the failure told last
	notAfter dates
	stage    [3]uint8 // by key type: how many of stages were told
}

// dates are when certificates expire in seconds since 1970, by the order of
// keyTypes. 0 is none: that long ago there was no TLS.
type dates [3]int64

// public returns the dates that there are.
func (d dates) public() (all []Expiry) {
	for kind, at := range d {
		if at != 0 {
			all = append(all, d.expiry(kind))
		}
	}
	return all
}

func (d dates) expiry(kind int) Expiry {
	return Expiry{KeyType: keyTypes[kind], NotAfter: time.Unix(d[kind], 0).UTC()}
}

// dates returns when the certificates of an identity expire.
func (id *Identity) dates() (d dates) {
	for _, cert := range id.Certificates {
		at := cert.Leaf.NotAfter.Unix()
		if kind := slices.Index(keyTypes, keyType(cert.Leaf)); d[kind] == 0 || at < d[kind] {
			d[kind] = at
		}
	}
	return d
}

// stages are the days before the end of a certificate at which it is told.
var stages = []int{30, 14, 7, 3, 1, 0}

const day = 24 * time.Hour

// expiryEvery is how often all dates are compared with the clock: a hundred
// thousand take a few milliseconds.
const expiryEvery = time.Hour

// reached returns how many stages a certificate has come to.
func reached(notAfter int64, now time.Time) (n uint8) {
	left := time.Unix(notAfter, 0).Sub(now)
	for _, days := range stages {
		if left <= time.Duration(days)*day {
			n++
		}
	}
	return n
}

// facts returns what is known of a folder, or nil if it is gone. The caller
// holds publishing.
func (s *Store) facts(folder string) *facts {
	x := s.index.Load()
	if i := x.number(folder); i >= 0 {
		return &x.known[i]
	}
	return nil
}

// learn notes when the certificates of a folder expire, and tells it if it is
// news. The caller holds publishing.
func (s *Store) learn(folder string, id *Identity) {
	known, now := s.facts(folder), id.dates()
	if known == nil || known.notAfter == now {
		return
	}
	for kind := range now { // what stays is not told again
		if now[kind] != known.notAfter[kind] {
			known.stage[kind] = 0
		}
	}
	known.notAfter = now
	s.events.Expiry(id.Folder, now.public())
	s.tellStages(id.Folder, known, time.Now())
}

// tellStages tells of certificates that came closer to their end: the last
// stage only, if there were several since. The caller holds publishing.
func (s *Store) tellStages(folder string, known *facts, now time.Time) {
	for kind, at := range known.notAfter {
		if at == 0 {
			continue
		}
		if n := reached(at, now); n > known.stage[kind] {
			known.stage[kind] = n
			s.events.Expiring(strings.Clone(folder), known.notAfter.expiry(kind), stages[n-1])
		}
	}
}

// tellExpiring compares all dates with the clock.
func (s *Store) tellExpiring() {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	x, now := s.index.Load(), time.Now()
	for i := range x.known {
		s.tellStages(x.folder(i), &x.known[i], now)
	}
}

// Expiries returns when the certificates of each folder expire, as far as that
// is known: loaded or not (see Options.Survey). The sequence is as of its use.
func (s *Store) Expiries() iter.Seq2[string, []Expiry] {
	return func(yield func(string, []Expiry) bool) {
		for k := range s.Known() {
			if all := k.Expiries(); len(all) > 0 && !yield(strings.Clone(k.Folder), all) {
				return
			}
		}
	}
}

// tellFailure tells each distinct failure of a folder once. With nil the next
// one is told again. The caller holds publishing.
func (s *Store) tellFailure(folder string, err error) {
	known, sum := s.facts(folder), uint64(0)
	if known == nil {
		return
	}
	if err != nil {
		sum = maphash.String(failureSeed, err.Error()) | 1
	}
	switch {
	case sum == known.told:
	case sum == 0:
		s.events.Mended(strings.Clone(folder))
	default:
		s.events.Failed(strings.Clone(folder), err)
	}
	known.told = sum
}
