package sni

import (
	"slices"
	"time"
)

const (
	// surveyPause is the least time between two folders of a survey: it takes
	// half an hour for a hundred thousand.
	surveyPause = 20 * time.Millisecond
	// surveyShare bounds the processor time of a survey to one in so many: keys
	// with a passphrase can take a second each.
	surveyShare = 20
	// surveyNew is how often a survey looks for folders that are new.
	surveyNew = time.Minute
)

// survey reads the folders that are not loaded: all in turn, and the new ones
// between.
func (s *Store) survey() {
	if s.options.Survey < 0 {
		return
	}
	var next time.Time // of a survey of all
	for {
		now := time.Now()
		all := !now.Before(next)
		if all {
			next = now.Add(s.options.Survey)
		}
		for _, e := range s.unread(all) {
			before := time.Now()
			if s.glimpse(e) && !s.sleep(max(surveyPause, surveyShare*time.Since(before))) {
				return
			}
		}
		if !s.sleep(min(surveyNew, s.options.Survey)) {
			return
		}
	}
}

// unread returns the folders that were never read, or all.
func (s *Store) unread(all bool) []*entry {
	entries := s.index.Load().entries
	if all {
		return entries
	}
	s.publishing.Lock()
	defer s.publishing.Unlock()
	return slices.DeleteFunc(slices.Clone(entries), func(e *entry) bool { return e.known != nil })
}

// sleep returns false once the store is closed.
func (s *Store) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stop:
		return false
	}
}

// glimpse reads a folder that is not loaded and keeps the dates alone. It
// returns false if there was nothing to read.
func (s *Store) glimpse(e *entry) bool {
	if e.removed() || e.identity() != nil {
		return false
	}
	id, _, err := s.disk.read(e.folder, s.options, nil, func([]string) {})
	s.publishing.Lock()
	defer s.publishing.Unlock()
	// What was loaded meanwhile may be newer.
	if e.removed() || e.identity() != nil {
		return true
	}
	s.tellFailure(e, err)
	if id != nil {
		s.learn(e, id)
	}
	return true
}
