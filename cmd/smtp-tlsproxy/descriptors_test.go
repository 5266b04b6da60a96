package main

import (
	"strings"
	"testing"
)

func TestFewDescriptors(t *testing.T) {
	for _, test := range []struct {
		name        string
		connections int
		may         uint64
		want        string // the end of the text; "" for no text
	}{
		{"enough", 100, 264, ""},
		{"one too few", 100, 263, "or lower it to 99"},
		{"what to set", 20000, 1024, "or lower it to 480"},
		{"the least that can be set", 20000, 66, "or lower it to 1"},
		{"nothing can be set", 20000, 65, "raise that (LimitNOFILE= of systemd, ulimit -n)"},
		{"no limit", 1_000_000, ^uint64(0), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := fewDescriptors(test.connections, test.may)
			if (got == "") != (test.want == "") || !strings.HasSuffix(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestFewDescriptorsSet: what the text says to set needs no further text.
func TestFewDescriptorsSet(t *testing.T) {
	for may := uint64(spareDescriptors + perSession); may < 300; may++ {
		if text := fewDescriptors(int((may-spareDescriptors)/perSession), may); text != "" {
			t.Fatal(text)
		}
	}
}
