// Package heapfloor lets the garbage collector wait for a small heap to grow.
//
// A proxy with few sessions lives in two or three megabytes, and the collector
// runs each time that as much was allocated again: every hundred handshakes,
// for some percent of their CPU. [Keep] makes it wait until the heap has a size
// that nobody minds. A heap whose live part is more than half of that is
// collected as always.
package heapfloor

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
)

// most is the floor where there is no lack of memory. It is touched only as far
// as something is allocated, so a process without load stays small.
const most = 64 << 20

// share is what the floor may be of the memory that the system grants.
const share = 4

const (
	normal = 100 // GOGC of Go itself
	// least is the heap below which Go does not collect at GOGC=100; it grows
	// in proportion (runtime/debug.SetGCPercent).
	least = 4 << 20
)

// Keep sets the floor for the rest of the process, from the next collection on:
// 64 MB, or a quarter of the memory that a container is limited to. It does
// nothing where the environment has GOGC: that is the operator's word.
// GOMEMLIMIT stays in force, whatever the floor.
func Keep() {
	if os.Getenv("GOGC") != "" {
		return
	}
	f := &floor{size: size("/sys/fs/cgroup/memory.max"), percent: normal}
	f.adjust()
	f.watch()
}

// size is the floor under the limit that a file of the kernel tells: a number,
// or "max". Where there is none, memory is not limited.
func size(file string) int64 {
	text, err := os.ReadFile(file)
	if err != nil {
		return most
	}
	limit, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	if err != nil {
		return most
	}
	return min(most, limit/share)
}

type floor struct {
	size    int64
	percent int
}

// watch adjusts after each collection: that is when an object that nobody has
// any more is found. The runtime calls one clean-up at a time.
func (f *floor) watch() {
	marker := new(struct{ self *floor }) // a pointer keeps it out of blocks that several objects share
	runtime.AddCleanup(marker, func(f *floor) {
		f.adjust()
		f.watch()
	}, f)
}

func (f *floor) adjust() {
	percent := percentFor(live(), f.size)
	if near := f.percent / 8; percent >= f.percent-near && percent <= f.percent+near {
		return // to set it stops the world
	}
	f.percent = percent
	debug.SetGCPercent(percent)
}

// percentFor is the GOGC with which a heap with so much alive is collected when
// it comes to size, or when it has doubled, if that is more.
func percentFor(live, size int64) int {
	percent := normal * size / least
	if live > 0 {
		percent = min(percent, normal*(size-live)/live)
	}
	return int(max(normal, percent))
}

// live is what the last collection found alive.
func live() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}
