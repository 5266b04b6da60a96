package test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// footprint is what the proxy holds, by sample: goroutines and file descriptors.
type footprint map[string]float64

// memory are the samples that together are what the program has in use.
var memory = []string{"go_memstats_heap_alloc_bytes", "go_memstats_stack_inuse_bytes"}

// memorySlack is how much more may be in use after a flood than before: what
// pools and maps keep, and 0.5 kB of each goroutine that there ever was.
const memorySlack = 4 << 20

// footprint takes it, where nothing goes on.
func (p *proxy) footprint(t testing.TB) footprint {
	t.Helper()
	f := make(footprint)
	for _, sample := range []string{"go_goroutines", "process_open_fds"} {
		f[sample] = p.value(t, sample)
	}
	return f
}

// requireFootprint waits until the proxy holds no more than it did.
func (p *proxy) requireFootprint(t testing.TB, before footprint) {
	t.Helper()
	for sample, was := range before {
		eventually(t, fmt.Sprintf("%s is %v again", sample, was), func() bool { return p.value(t, sample) <= was })
	}
}

// showMemory lets inUse look at it, by a reload.
func (p *proxy) showMemory(t testing.TB) {
	t.Helper()
	p.rewrite(t, strings.Replace(p.yaml(), "admin: {", "admin: {pprof: true, ", 1))
	eventually(t, "profiles are served", func() bool { return p.collect() == http.StatusOK })
}

// collect has the proxy free what it does not use.
func (p *proxy) collect() (code int) {
	for range 2 { // pools let go of what they keep at the second time
		code, _ = get("http://" + p.admin + "/debug/pprof/heap?gc=1")
	}
	return code
}

// inUse is the memory that the proxy can not free, in bytes.
func (p *proxy) inUse(t testing.TB) (bytes float64) {
	t.Helper()
	if code := p.collect(); code != http.StatusOK {
		t.Fatalf("profiles are not served: %d", code)
	}
	for _, sample := range memory {
		bytes += p.value(t, sample)
	}
	return bytes
}

// value is that of a sample without labels.
func (p *proxy) value(t testing.TB, sample string) float64 {
	t.Helper()
	text := p.metric(t, sample+" ")
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatalf("%s is %q", sample, text)
	}
	return value
}
