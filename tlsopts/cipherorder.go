package tlsopts

import "slices"

// cipherOrder is the state of a cipher string between two of its parts.
type cipherOrder struct {
	chosen []*suite
	// waiting are the suites that a part may add, in the order in which it
	// would add them.
	waiting []*suite
}

// run applies the rules to the whole table and gives the suites that remain,
// most preferred first. It tells t what became of each rule.
func (r *cipherRules) run(t *tally) []*suite {
	o := &cipherOrder{waiting: make([]*suite, len(suites))}
	for i := range suites {
		o.waiting[i] = &suites[i]
	}
	for i := range r.rules {
		rule := &r.rules[i]
		o.apply(rule)
		t.count(rule, o.chosen)
	}
	return slices.DeleteFunc(o.chosen, func(s *suite) bool { return !allowedAt(r.level, s) })
}

func (o *cipherOrder) apply(r *cipherRule) {
	var picked []*suite
	switch r.operation {
	case 0:
		picked, o.waiting = split(o.waiting, r.adds)
		o.chosen = append(o.chosen, picked...)
	case '-':
		// What was taken out last is the first to come back.
		picked, o.chosen = split(o.chosen, r.chooses)
		o.waiting = append(picked, o.waiting...)
	case '!':
		_, o.chosen = split(o.chosen, r.chooses)
		_, o.waiting = split(o.waiting, r.chooses)
	case '+':
		picked, o.chosen = split(o.chosen, r.chooses)
		o.chosen = append(o.chosen, picked...)
	case '@':
		slices.SortStableFunc(o.chosen, func(a, b *suite) int { return b.strength() - a.strength() })
	}
}

// split parts list into what is picked and what is left, both in order.
func split(list []*suite, pick func(*suite) bool) (picked, left []*suite) {
	for _, s := range list {
		if pick(s) {
			picked = append(picked, s)
		} else {
			left = append(left, s)
		}
	}
	return picked, left
}

// levelBits are the bits of security that the levels 0 to 5 ask for
// (SSL_CTX_set_security_level(3)).
var levelBits = [...]int{0, 80, 112, 128, 192, 256}

// allowedAt tells whether OpenSSL offers s at a security level; -1, for none
// named, allows all. The levels up to 2 allow everything that Go has.
func allowedAt(level int, s *suite) bool {
	if level < 1 {
		return true
	}
	switch {
	case s.strength() < levelBits[level]:
		return false
	case s.has(authNone | macMD5):
		return false
	case level >= 3 && !s.has(forwardKeys):
		return false
	case level >= 4 && s.has(macSHA1):
		return false
	}
	return true
}
