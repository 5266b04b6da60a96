package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
)

// source is a file while it is read: where each value of the Config stands in
// it, and the faults so far.
type source struct {
	file string
	// origins is keyed by the address of a field, such as &cfg.Log.Level, so
	// that no key is spelled a second time to find its place. Fields must not
	// move once they are decoded.
	origins map[any]origin
	faults  Faults
}

type origin struct {
	line, column int
	state        state
	variable     string // of the environment, in place of a line
}

type state int

const (
	unset  state = iota // not written; the origin is what it is inherited from, or the group that may hold it
	set                 // written and decoded
	faulty              // a fault was reported; more about it would be noise
)

// isSet tells whether the file gives the field a value that could be decoded.
func (s *source) isSet(field any) bool { return s.origins[field].state == set }

// fault reports what is wrong with a field, unless a fault of that field, or
// of a group that holds it, was reported before.
func (s *source) fault(field any, format string, args ...any) {
	o := s.origins[field]
	if o.state == faulty {
		return
	}
	s.report(o, format, args...)
	o.state = faulty
	s.origins[field] = o
}

// require reports a field that is not set.
func (s *source) require(field any, key string) bool {
	if s.isSet(field) {
		return true
	}
	s.fault(field, "%s is missing", key)
	return false
}

// report adds a fault at a place, once: what is wrong with the file's tls group
// is wrong with that of each listener that inherits it.
func (s *source) report(o origin, format string, args ...any) {
	if f := s.faultAt(o, fmt.Sprintf(format, args...)); !slices.Contains(s.faults, f) {
		s.faults = append(s.faults, f)
	}
}

func (s *source) faultAt(o origin, text string) Fault {
	return Fault{cmp.Or(o.variable, s.file), o.line, o.column, text}
}

// mark records where v came from and, if it is a group of keys, the same for
// all in it.
func (s *source) mark(v reflect.Value, o origin) {
	s.origins[v.Addr().Interface()] = o
	if v.Kind() != reflect.Struct {
		return
	}
	_, fields := fieldsOf(v)
	for _, field := range fields {
		s.mark(field, o)
	}
}
