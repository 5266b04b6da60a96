package sni_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// TestMended: whoever keeps a list of what is broken learns when it is not any
// more, whether the files are new or the old ones came back.
func TestMended(t *testing.T) {
	dir := tree(t, "a.example", "b.example", "UPPER.example")
	var failed, mended atomic.Pointer[string]
	s, err := sni.Open(dir, sni.Options{Default: "a.example", Events: sni.Events{
		Failed: func(folder string, err error) { failed.Store(&folder) },
		Mended: func(folder string) { mended.Store(&folder) },
	}})
	must(t, err)
	defer s.Close()
	is := func(p *atomic.Pointer[string], want string) func() bool {
		return func() bool { got := p.Load(); return got != nil && *got == want }
	}
	if !is(&failed, "UPPER.example")() {
		t.Error("the folder that can not be asked for was not told")
	}
	must(t, os.Rename(filepath.Join(dir, "UPPER.example"), filepath.Join(dir, "c.example")))
	eventually(t, "the name is right", is(&mended, "UPPER.example"))

	key := filepath.Join(dir, "a.example", "key.pem")
	good, err := os.ReadFile(key)
	must(t, err)
	must(t, os.WriteFile(key, []byte("broken"), 0o600))
	eventually(t, "a.example is broken", is(&failed, "a.example"))
	must(t, os.WriteFile(key, good, 0o600))
	eventually(t, "a.example is mended", is(&mended, "a.example"))
}

// TestExpiries: all folders are in it once they were surveyed.
func TestExpiries(t *testing.T) {
	dir := tree(t, "a.example", "b.example", "c.example")
	s, err := sni.Open(dir, sni.Options{Default: "a.example"})
	must(t, err)
	defer s.Close()
	eventually(t, "all dates are known", func() bool {
		known := map[string]bool{}
		for folder, all := range s.Expiries() {
			known[folder] = len(all) == 1 && all[0].KeyType == "ecdsa" && !all[0].NotAfter.IsZero()
		}
		return known["a.example"] && known["b.example"] && known["c.example"]
	})
}
