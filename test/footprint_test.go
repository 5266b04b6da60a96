package test

import (
	"fmt"
	"testing"
)

// footprint is what the proxy holds: goroutines and file descriptors.
type footprint map[string]int

// footprint takes it, where nothing goes on.
func (p *proxy) footprint(t testing.TB) footprint {
	t.Helper()
	f := make(footprint)
	for _, sample := range []string{"go_goroutines ", "process_open_fds "} {
		f[sample] = p.number(t, sample)
	}
	return f
}

// requireFootprint waits until the proxy holds no more than it did.
func (p *proxy) requireFootprint(t testing.TB, before footprint) {
	t.Helper()
	for sample, was := range before {
		eventually(t, fmt.Sprintf("%sis %d again", sample, was), func() bool { return p.number(t, sample) <= was })
	}
}
