package heapfloor

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		live int64
		want int
	}{
		{0, 800},
		{1, 800}, // more would make Go's own least heap larger than the floor
		{3 * mb, 800},
		{4 * mb, 700},
		{8 * mb, 300},
		{16 * mb, 100},
		{24 * mb, 100},
		{1 << 40, 100},
	} {
		if got := percentFor(c.live, 32*mb); got != c.want {
			t.Errorf("%d bytes alive: GOGC %d, want %d", c.live, got, c.want)
		}
	}
}

// TestSize gives the process control groups of its own.
func TestSize(t *testing.T) {
	const v1, v2 = "4:cpu,cpuacct:/a/b\n9:memory:/a/b\n", "0::/a/b\n"
	for name, c := range map[string]struct {
		groups string
		files  map[string]string
		want   int64
	}{
		"no limit":            {v2, map[string]string{"a/b/memory.max": "max\n", "a/memory.max": "max\n"}, most},
		"of its own":          {v2, map[string]string{"a/b/memory.max": "67108864\n", "a/memory.max": "max\n"}, 16 << 20},
		"of one above":        {v2, map[string]string{"a/b/memory.max": "134217728\n", "a/memory.max": "67108864\n"}, 16 << 20},
		"of a container":      {"0::/\n", map[string]string{"memory.max": "67108864\n"}, 16 << 20},
		"large":               {v2, map[string]string{"a/b/memory.max": "17179869184\n"}, most},
		"version 1":           {v1, map[string]string{"memory/a/b/memory.limit_in_bytes": "67108864\n"}, 16 << 20},
		"version 1, no limit": {v1, map[string]string{"memory/a/b/memory.limit_in_bytes": "9223372036854771712\n"}, most},
		"no groups":           {"", nil, most},
		"of others":           {v2, map[string]string{"a/c/memory.max": "67108864\n"}, most},
	} {
		root := t.TempDir()
		write := func(file, text string) {
			t.Helper()
			file = filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("proc/self/cgroup", c.groups)
		for file, text := range c.files {
			write("sys/fs/cgroup/"+file, text)
		}
		if got := size(root); got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, got, c.want)
		}
	}
	if got := size(t.TempDir()); got != most {
		t.Errorf("on another system: %d bytes", got)
	}
}

// kept keeps a heap alive.
var kept [][]byte

// TestKeep fills and frees the heap and looks at what becomes of GOGC.
func TestKeep(t *testing.T) {
	t.Setenv("GOGC", "")
	before := percent()
	t.Cleanup(func() { debug.SetGCPercent(before) })
	Keep()
	waitFor(t, "a small heap", func(percent int) bool { return percent >= 300 })
	for range 128 {
		kept = append(kept, make([]byte, 1<<20))
	}
	waitFor(t, "a large heap", func(percent int) bool { return percent == normal })
	kept = nil
	waitFor(t, "a heap that shrank", func(percent int) bool { return percent >= 300 })
}

func TestKeep_LeavesGOGCToTheOperator(t *testing.T) {
	t.Setenv("GOGC", "100")
	before := percent()
	Keep()
	if got := percent(); got != before {
		t.Errorf("GOGC is %d, was %d", got, before)
	}
}

// waitFor collects until GOGC is as it should be: the clean-up comes some time
// after the collection.
func waitFor(t *testing.T, what string, ok func(percent int) bool) {
	t.Helper()
	for range 1000 {
		runtime.GC()
		if ok(percent()) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: GOGC stays %d", what, percent())
}

// percent is the GOGC in force.
func percent() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}
