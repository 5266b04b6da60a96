package main

import (
	"strings"
	"testing"
)

// TestLedger holds that the soak can fail.
func TestLedger(t *testing.T) {
	tests := []struct {
		name string
		does func(l *ledger, id uint64)
		want string // of the violation; "" for none
	}{
		{"delivered", func(l *ledger, id uint64) { l.finishes(id); l.takes(id, 7); l.accepts(id) }, ""},
		{"not told", func(l *ledger, id uint64) { l.finishes(id); l.takes(id, 7) }, ""},
		{"refused", func(l *ledger, id uint64) { l.finishes(id) }, ""},
		{"abandoned", func(*ledger, uint64) {}, ""},
		{"lost", func(l *ledger, id uint64) { l.finishes(id); l.accepts(id) }, "lost"},
		{"doubled", func(l *ledger, id uint64) { l.finishes(id); l.takes(id, 7); l.takes(id, 7); l.accepts(id) }, "taken 2 times"},
		{"truncated", func(l *ledger, id uint64) { l.finishes(id); l.takes(id, 6); l.accepts(id) }, "in part"},
		{"made whole", func(l *ledger, id uint64) { l.takes(id, 7) }, "abandoned"},
		{"made up", func(l *ledger, id uint64) { l.takes(id+1, 7) }, "nobody sent it"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger()
			id := l.begin()
			l.sends(id, 7)
			test.does(l, id)
			v := l.judge()
			if got := strings.Join(v.violations, "\n"); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("found %q, want %q", got, test.want)
			}
		})
	}
}
