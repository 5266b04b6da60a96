package sni_test

import (
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// TestSettled shows when a file has to be read again although it looks as it
// did: two writes within a tick of the file system's clock look alike.
func TestSettled(t *testing.T) {
	read := time.Now()
	tests := map[time.Duration]bool{ // changed that long before it was read
		time.Hour:         true,
		3 * time.Second:   true,
		time.Second:       false,
		0:                 false,
		-time.Millisecond: false, // while it was read
		-time.Hour:        true,  // made up, and no reason to read it for ever
	}
	for before, want := range tests {
		if got := sni.Settled(read.Add(-before), read); got != want {
			t.Errorf("changed %v before it was read: settled %v", before, got)
		}
	}
}
