package tlsopts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// tally collects, while a cipher string is applied, the parts that a user may
// think have an effect and that have none.
type tally struct {
	absent   []string // Go has not the suites
	rc4      []string
	retired  []string
	tls13    []string
	nothing  []string // fit no suite at all
	excluded []string // taken out by an earlier "!"
}

// count classes a rule that was just applied.
func (t *tally) count(r *cipherRule, chosen []*suite) {
	if r.tls13 { // also with "!" before it: a user may believe it to be off
		t.tls13 = append(t.tls13, r.text)
		return
	}
	if r.operation != 0 {
		return
	}
	var meant, served []*suite
	for i := range suites {
		if s := &suites[i]; r.adds(s) {
			meant = append(meant, s)
			if goSuites[s.id] {
				served = append(served, s)
			}
		}
	}
	switch {
	case r.retired:
		t.retired = append(t.retired, r.text)
	case len(meant) == 0:
		t.nothing = append(t.nothing, r.text)
	case len(served) == 0 && !slices.ContainsFunc(meant, func(s *suite) bool { return !s.has(rc4) }):
		t.rc4 = append(t.rc4, r.text)
	case len(served) == 0:
		t.absent = append(t.absent, r.text)
	case !slices.ContainsFunc(served, func(s *suite) bool { return slices.Contains(chosen, s) }):
		t.excluded = append(t.excluded, r.text)
	}
}

// notes are sentences about what has no effect.
func (t *tally) notes(level int) []string {
	var notes []string
	add := func(parts []string, why string) {
		if len(parts) > 0 {
			notes = append(notes, strings.Join(parts, ", ")+": "+why)
		}
	}
	add(t.tls13, "TLS 1.3 suites cannot be chosen in Go; all of its three are on wherever TLS 1.3 is")
	add(t.absent, "passed over, Go has none of these suites")
	add(t.rc4, "passed over, RC4 is prohibited (RFC 7465)")
	add(t.retired, "passed over, current OpenSSL has none of these suites")
	add(t.nothing, "passed over, no suite fits")
	add(t.excluded, `passed over, an earlier "!" excludes all of it`)
	if level >= 0 {
		notes = append(notes, fmt.Sprintf("@SECLEVEL=%d: applied to the suites only; the other options decide on versions, keys and groups", level))
	}
	return notes
}

// nothingLeft is the error for a string that chooses no suite that Go has.
func (t *tally) nothingLeft(level int) error {
	if len(t.tls13) > 0 && len(t.absent)+len(t.rc4)+len(t.retired)+len(t.nothing)+len(t.excluded) == 0 {
		return errors.New("the cipher string names only TLS 1.3 suites, which are always on: " +
			"add suites for TLS 1.2, or leave it out and set min_version to TLSv1.3")
	}
	why := ""
	if notes := t.notes(level); len(notes) > 0 {
		why = " (" + strings.Join(notes, "; ") + ")"
	}
	return errors.New("no cipher suite remains that Go has; add some, such as ECDHE+AESGCM" + why)
}

// weaknesses are sentences about the chosen suites that a user should know of.
func weaknesses(order []*suite) []string {
	var notes []string
	add := func(why string, weak func(s *suite) bool) {
		if picked, _ := split(order, weak); len(picked) > 0 {
			names := make([]string, len(picked))
			for i, s := range picked {
				names[i] = s.name
			}
			notes = append(notes, strings.Join(names, ", ")+": "+why)
		}
	}
	add("weak, no forward secrecy: whoever gets the key can read recorded sessions (RFC 9325 section 4.1)",
		func(s *suite) bool { return s.has(kxRSA) })
	add("weak, 64-bit blocks (CVE-2016-2183, Sweet32)",
		func(s *suite) bool { return s.has(tripleDES) })
	add("weak, Go has no countermeasure against Lucky Thirteen for CBC with SHA-256",
		func(s *suite) bool { return s.has(aesCBC) && s.has(macSHA256) })
	return notes
}
