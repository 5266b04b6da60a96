package main

import "time"

// patience is how long an end waits for the disk. One that hangs, as of a dead
// network file system, must not hold up that of the process, nor a reload that
// turns away from that disk.
const patience = time.Second

// patiently does what may wait for the disk, and goes on without it after a
// while. It returns whether all was done by then.
func patiently(do func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
		return true
	case <-time.After(patience):
		return false
	}
}
