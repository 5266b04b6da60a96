package main

import (
	"fmt"
	"math"
	"syscall"
)

const (
	// perSession is how many file descriptors a session takes: the client's
	// connection and the backend's.
	perSession = 2
	// spareDescriptors are for all else: listeners, the admin address, health
	// checks, certificate files, and what the runtime holds.
	spareDescriptors = 64
)

// openFiles is how many file descriptors the process may have. Go raised the
// soft limit to the hard one when it started.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxUint64 // unknown: nothing to warn of
	}
	return limit.Cur
}

// fewDescriptors tells that so many connections need more file descriptors than
// the process may have, and what to do; "" where they do not. Accepting would
// fail before limits.connections is reached, and so would the connections to
// backends of clients that were let in.
func fewDescriptors(connections int, may uint64) string {
	needs := perSession*uint64(connections) + spareDescriptors
	if needs <= may {
		return ""
	}
	text := fmt.Sprintf("limits.connections: %d connections need %d file descriptors, and the process may have %d: raise that (LimitNOFILE= of systemd, ulimit -n)",
		connections, needs, may)
	if may >= spareDescriptors+perSession {
		text += fmt.Sprintf(", or lower it to %d", (may-spareDescriptors)/perSession)
	}
	return text
}
