package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// TestSourceOf: a flag counts before the environment, that before a file in the
// default's place, and without any the environment alone if it is enough.
func TestSourceOf(t *testing.T) {
	t.Parallel()
	there := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "config.yaml")
	enough := config.Environment{"BACKEND": "a:25"}
	names := config.Environment{"BACKEND": "a:25", "CONFIG": "/named"}
	for _, test := range []struct {
		what  string
		file  string
		named bool
		env   config.Environment
		want  string
	}{
		{"the flag", "/flag", true, names, "/flag"},
		{"a flag whose file is missing", missing, true, enough, missing},
		{"the environment's file", there, false, names, "/named"},
		{"the default's file", there, false, enough, there},
		{"no file, and the environment", missing, false, enough, ""},
		{"no file, and too little", missing, false, config.Environment{"ADMIN": "off"}, missing},
	} {
		if got := sourceOf(test.file, test.named, test.env); got.file != test.want {
			t.Errorf("%s: %q, want %q", test.what, got.file, test.want)
		}
	}
}
