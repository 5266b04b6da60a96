// Package measure tells what processes cost: CPU time and memory, as Linux
// counts them. Both hold on a machine that others use, where the time on the
// clock does not.
package measure

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/PID/stat: USER_HZ, 100 a second on
// every architecture that Go runs on.
const tick = 10 * time.Millisecond

// Tree returns a process and all that descend from it.
func Tree(pid int) []int {
	children := make(map[int][]int)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		child, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if fields := stat(child); fields != nil {
			parent, _ := strconv.Atoi(fields[1])
			children[parent] = append(children[parent], child)
		}
	}
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree
}

// CPU is what processes have used so far, in user mode and in the system, with
// their threads and children that have ended. It counts in steps of 10 ms.
func CPU(pids []int) time.Duration {
	var ticks int64
	for _, pid := range pids {
		fields := stat(pid)
		if fields == nil {
			continue
		}
		for _, field := range fields[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(field, 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * tick
}

// stat returns the fields of /proc/PID/stat from the third on, the state: the
// second is a name that may have blanks.
func stat(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	text := string(data)
	return strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
}

// PSS is the memory of processes in bytes: what is theirs alone, and their
// share of what they have in common with others.
func PSS(pids ...int) (bytes int64) {
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if fields := strings.Fields(line); fields[0] == "Pss:" {
				kb, _ := strconv.ParseInt(fields[1], 10, 64)
				bytes += kb << 10
			}
		}
	}
	return bytes
}

// Load is the load average of the machine over 1, 5 and 15 minutes.
func Load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(data))[:3], " ")
}

// Percentile is the value that so many of a hundred do not pass. There must be
// values.
func Percentile[T cmp.Ordered](all []T, percent int) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

// Median is the value in the middle.
func Median[T cmp.Ordered](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// MB is for people.
func MB(bytes int64) float64 { return float64(bytes) / (1 << 20) }
