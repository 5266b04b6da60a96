package measure_test

import (
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/measure"
)

func TestTreeAndCPU(t *testing.T) {
	// The grandchild works until it has used some ticks, and ends.
	child := exec.Command("sh", "-c", `sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'; echo done; read line`)
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = input.Close(); _ = child.Wait() }()
	if _, err := output.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if tree := measure.Tree(os.Getpid()); !slices.Contains(tree, child.Process.Pid) {
		t.Errorf("%v is without the child %d", tree, child.Process.Pid)
	}
	if cpu := measure.CPU([]int{child.Process.Pid}); cpu < 10*time.Millisecond {
		t.Errorf("the child with what it waited for used %v", cpu)
	}
	if pss := measure.PSS(child.Process.Pid); pss < 50<<10 || pss > 100<<20 {
		t.Errorf("a shell takes %d bytes", pss)
	}
}

func TestPercentile(t *testing.T) {
	all := []int{5, 1, 4, 2, 3}
	for percent, want := range map[int]int{1: 1, 20: 1, 50: 3, 99: 5, 100: 5} {
		if got := measure.Percentile(all, percent); got != want {
			t.Errorf("%d %%: %d, want %d", percent, got, want)
		}
	}
	if got := measure.Median(all); got != 3 {
		t.Errorf("median %d", got)
	}
}
