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
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
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
// 64 MB, or a quarter of what the process is limited to. It does
// nothing where the environment has GOGC: that is the operator's word.
// GOMEMLIMIT stays in force, whatever the floor.
func Keep() {
	if os.Getenv("GOGC") != "" {
		return
	}
	f := &floor{size: size("/"), percent: normal}
	f.adjust()
	f.watch()
}

// size is the floor under the least limit of the memory of the process.
func size(root string) int64 {
	least := int64(most)
	for _, file := range limits(root) {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the root of all has none
		}
		if limit, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil { // or it is "max"
			least = min(least, limit/share)
		}
	}
	return least
}

// limits are the files with the limits of the process's control group and of
// those that it is in (cgroups(7)), in version 2 and in version 1.
func limits(root string) (files []string) {
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		top, name := "sys/fs/cgroup", "memory.max"
		switch {
		case slices.Contains(strings.Split(parts[1], ","), "memory"):
			top, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case parts[0] != "0":
			continue
		}
		for group := filepath.Clean("/" + parts[2]); ; group = filepath.Dir(group) {
			files = append(files, filepath.Join(root, top, group, name))
			if group == "/" {
				break
			}
		}
	}
	return files
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
