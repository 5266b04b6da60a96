package main

import "testing"

// TestExplain holds that a warning which the soak does not cause is found.
func TestExplain(t *testing.T) {
	const (
		killed  = `{"level":"WARN","msg":"session","outcome":"backend_error","error":"read: connection reset by peer"}`
		refused = `{"level":"ERROR","msg":"configuration refused; the one before it stays in force","error":"unknown key nonsense"}`
	)
	tests := []struct {
		name, line string
		killing    bool
		explained  bool
	}{
		{"information", `{"level":"INFO","msg":"session"}`, false, true},
		{"killed backend", killed, true, true},
		{"backend that nobody killed", killed, false, false},
		{"broken configuration", refused, false, true},
		{"good configuration refused", `{"level":"ERROR","msg":"configuration refused; the one before it stays in force","error":"disk full"}`, false, false},
		{"panic", `{"level":"ERROR","msg":"panic in a session: this is a bug, please report it"}`, true, false},
		{"no log line", "panic: runtime error", true, false},
	}
	for _, test := range tests {
		if _, explained := explain([]byte(test.line), test.killing); explained != test.explained {
			t.Errorf("%s: explained is %v", test.name, explained)
		}
	}
}
