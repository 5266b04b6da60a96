package sni

import (
	"strings"
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
		for folder, ok := s.surveyed("", all); ok; folder, ok = s.surveyed(folder, all) {
			before := time.Now()
			s.glimpse(folder)
			if !s.sleep(max(surveyPause, surveyShare*time.Since(before))) {
				return
			}
		}
		if !s.sleep(min(surveyNew, s.options.Survey)) {
			return
		}
	}
}

// surveyed returns the first folder behind last that is not loaded, and was
// never read unless all are wanted.
func (s *Store) surveyed(last string, all bool) (folder string, ok bool) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	x := s.index.Load()
	for i := x.after(last); i < x.len(); i++ {
		if l := x.lives[i].Load(); l != nil && l.identity.Load() != nil {
			continue
		}
		if all || x.known[i] == (facts{}) {
			return strings.Clone(x.folder(i)), true
		}
	}
	return "", false
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

// glimpse reads a folder that is not loaded and keeps the dates alone.
func (s *Store) glimpse(folder string) {
	id, _, err := s.disk.read(folder, s.options, nil, func(places) {})
	s.publishing.Lock()
	defer s.publishing.Unlock()
	x := s.index.Load()
	i := x.number(folder)
	if i < 0 {
		return
	}
	if l := x.lives[i].Load(); l != nil && l.identity.Load() != nil {
		return // it was loaded meanwhile, and that may be newer
	}
	s.tellFailure(folder, err)
	if id != nil {
		s.learn(folder, id)
	}
}
