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

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"max\n":         most,
		"67108864\n":    16 << 20,
		"17179869184\n": most,
		"":              most,
	} {
		file := filepath.Join(t.TempDir(), "memory.max")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := size(file); got != want {
			t.Errorf("limit %q: %d bytes, want %d", text, got, want)
		}
	}
	if got := size(filepath.Join(t.TempDir(), "none")); got != most {
		t.Errorf("without a limit: %d bytes", got)
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
