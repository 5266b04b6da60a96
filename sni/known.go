package sni

import (
	"iter"
	"time"
)

// Known is what is known of a folder, loaded or not. It holds no copies: to
// look through a hundred thousand of them costs no memory.
type Known struct {
	Folder string // a part of the whole index: who keeps it clones it

	notAfter dates // none before it was read for a client or by the survey (Options.Survey)
}

// NotAfter is when the first of its certificates expires; the zero time where
// that is not known.
func (k Known) NotAfter() time.Time {
	first := int64(0)
	for _, at := range k.notAfter {
		if at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	if first == 0 {
		return time.Time{}
	}
	return time.Unix(first, 0).UTC()
}

// Expiries is when its certificates expire, by key type.
func (k Known) Expiries() []Expiry { return k.notAfter.public() }

// Known returns what is known of each folder, in the order of names. The
// sequence is as of its use. The lock that events and first handshakes of a
// folder need is taken for one folder at a time, and never while the caller
// does its work.
func (s *Store) Known() iter.Seq[Known] {
	return func(yield func(Known) bool) {
		x := s.index.Load()
		for i := range x.len() {
			if !yield(s.knownOf(x, i)) {
				return
			}
		}
	}
}

// KnownOf returns what is known of one folder, and whether there is one that
// is called so.
func (s *Store) KnownOf(folder string) (k Known, ok bool) {
	x := s.index.Load()
	if i := x.number(folder); i >= 0 {
		return s.knownOf(x, i), true
	}
	return Known{}, false
}

func (s *Store) knownOf(x *index, i int) Known {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	return Known{Folder: x.folder(i), notAfter: x.known[i].notAfter}
}
