package tlsopts_test

import (
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// FuzzParsePairs: no panic, no key bytes and no passphrase in errors, and what
// is returned is whole. Its seeds are in testdata/fuzz.
func FuzzParsePairs(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, passphrase string) {
		pairs, err := tlsopts.ParsePairs([]byte(passphrase), tlsopts.File{Name: "x", Data: data})
		if err != nil {
			if leak := keyBytesIn(err.Error(), data); leak != "" {
				t.Errorf("error %q has %q of the key", err, leak)
			}
			if len(passphrase) >= 8 && strings.Contains(err.Error(), passphrase) {
				t.Errorf("error %q has the passphrase", err)
			}
			return
		}
		if len(pairs) == 0 {
			t.Error("neither a pair nor an error")
		}
		for _, pair := range pairs {
			if pair.Leaf == nil || pair.PrivateKey == nil || string(pair.Certificate[0]) != string(pair.Leaf.Raw) {
				t.Error("a pair in parts")
			}
			tlsopts.ChainNotes(pair)
		}
	})
}
