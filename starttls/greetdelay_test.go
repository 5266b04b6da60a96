package starttls_test

import "testing"

// TestR16_EarlyTalkers plays what becomes of clients that do not wait for the
// greeting, and of those that do.
func TestR16_EarlyTalkers(t *testing.T) {
	for _, name := range []string{"plain_greet_delay", "plain_early_talker", "plain_early_hello", "plain_greet_delay_shutdown"} {
		play(t, name+".smtp")
	}
}
