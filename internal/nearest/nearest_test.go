package nearest_test

import (
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/nearest"
)

func TestName(t *testing.T) {
	t.Parallel()
	known := []string{"tls", "log", "listeners", "timeouts", "AESGCM", "CHACHA20", "min_version", "max_version"}
	for _, test := range []struct{ word, want string }{
		{"tsl", "tls"},
		{"LOG", "log"},
		{"listener", "listeners"},
		{"time_outs", "timeouts"},
		{"AESGMC", "AESGCM"},
		{"chacah20", "CHACHA20"},
		{"maxversion", "max_version"},
		{"lb", ""},
		{"dns", ""},
		{"metrics", ""},
		{"", ""},
		{strings.Repeat("l", 1000), ""},
	} {
		if got := nearest.Name(test.word, known); got != test.want {
			t.Errorf("Name(%.20q) = %q, want %q", test.word, got, test.want)
		}
	}
}
