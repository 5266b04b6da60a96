package config_test

import (
	"errors"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// FuzzParse holds that no file makes Parse panic, that it gives either a
// Config or faults, and that each fault says where it is and what is wrong.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml", "../../config.example.yaml"} {
		for _, file := range glob(f, pattern) {
			f.Add(read(f, file))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := config.Parse("fuzz.yaml", data)
		if err == nil {
			if cfg == nil || len(cfg.Listeners) == 0 || len(cfg.Backends) == 0 {
				t.Fatalf("no fault in an incomplete configuration: %+v", cfg)
			}
			return
		}
		var faults config.Faults
		if cfg != nil || !errors.As(err, &faults) || len(faults) == 0 {
			t.Fatalf("got %v, %T, want faults only", cfg, err)
		}
		last := config.Fault{}
		for _, fault := range faults {
			if fault.File != "fuzz.yaml" || fault.Text == "" || fault.Line < last.Line {
				t.Errorf("fault %+v after %+v", fault, last)
			}
			last = fault
		}
	})
}
