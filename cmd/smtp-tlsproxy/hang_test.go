package main

import (
	"bytes"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestSIGTERMDoesNotWaitForTheDisk: whoever it is that reads the configuration
// file when its disk hangs, the process ends.
func TestSIGTERMDoesNotWaitForTheDisk(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		reads int64 // of the changed file that the disk answers
	}{
		{"who follows the file", 0},
		{"who finds out whether it differs from what is in force", 1},
		{"the reload", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			var reads atomic.Int64
			hangs, mended := make(chan struct{}), make(chan struct{})
			i := newInstance(newLogging(new(output)))
			i.digestOf = func(file string) digest {
				if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte("changed")) {
					if n := reads.Add(1); n > test.reads {
						if n == test.reads+1 {
							close(hangs)
						}
						<-mended
					}
				}
				return digestOf(file)
			}
			t.Cleanup(func() { close(mended) })
			stop, ended := make(chan os.Signal, 2), make(chan error, 1)
			go func() { ended <- i.serve(source{file: s.file}, keepPrivileges, stop, nil) }()
			r := &serving{site: s}
			eventually(t, "the proxy is ready", func() bool {
				code, _ := r.get("/readyz")
				return code == 200
			})
			s.write(t, s.yaml()+"# changed\n")
			<-hangs
			stop <- syscall.SIGTERM
			if err := <-ended; err != nil {
				t.Errorf("serve returned %v", err)
			}
		})
	}
}

// TestSIGTERMEndsAStart: a disk that hangs from the first reading on.
func TestSIGTERMEndsAStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hangs, mended := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(mended) })
	var once atomic.Bool
	log := new(output)
	i := newInstance(newLogging(log))
	i.digestOf = func(string) digest {
		if once.CompareAndSwap(false, true) {
			close(hangs)
		}
		<-mended
		return digest{}
	}
	stop, ended := make(chan os.Signal, 2), make(chan error, 1)
	go func() { ended <- i.serve(source{file: s.file}, keepPrivileges, stop, nil) }()
	<-hangs
	stop <- syscall.SIGTERM
	if err := <-ended; err != nil {
		t.Errorf("serve returned %v", err)
	}
	if !strings.Contains(log.String(), "stopped before a client was served") {
		t.Errorf("log:\n%s", log)
	}
}
