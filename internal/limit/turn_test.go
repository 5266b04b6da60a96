package limit_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/limit"
)

func TestR77_TurnsAreBounded(t *testing.T) {
	t.Parallel()
	const bound = 3
	l := limit.New(limit.Limits{ConcurrentHandshakes: bound})
	var computing, most atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			turn := l.Turn()
			for range 200 {
				if err := turn.Take(t.Context()); err != nil {
					t.Error(err)
				}
				for n := computing.Add(1); ; {
					if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
						break
					}
				}
				computing.Add(-1)
				turn.Yield()
			}
		})
	}
	wg.Wait()
	if n := most.Load(); n > bound {
		t.Errorf("%d had their turn at once, want at most %d", n, bound)
	}
	turns := make([]limit.Turn, bound+1)
	for i := range turns { // none was lost
		turns[i] = l.Turn()
		if got := turns[i].Try(); got != (i < bound) {
			t.Errorf("turn %d: Try is %v", i, got)
		}
	}
}

func TestTurnsAreServedInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(limit.Limits{ConcurrentHandshakes: 1})
		first := l.Turn()
		for range 2 { // the second time is of no effect
			if !first.Try() {
				t.Fatal("the first turn is not free")
			}
		}
		var mu sync.Mutex
		var served []int
		for i := range 5 {
			go func() {
				turn := l.Turn()
				if turn.Try() {
					t.Error("two turns at once")
				}
				if err := turn.Take(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				served = append(served, i)
				mu.Unlock()
				turn.Yield()
				turn.Yield() // of no effect
			}()
			synctest.Wait()
		}
		first.Yield()
		synctest.Wait()
		if !slices.Equal(served, []int{0, 1, 2, 3, 4}) {
			t.Errorf("served %v", served)
		}
	})
}

// TestWaitingEndsWithItsContext: who gave up takes no turn.
func TestWaitingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(limit.Limits{ConcurrentHandshakes: 1})
		first, second := l.Turn(), l.Turn()
		if err := first.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := second.Take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		second.Yield() // has none
		first.Yield()
		if !second.Try() {
			t.Error("the turn was lost")
		}
	})
}

// TestSetWithTurnsTaken: another bound holds at once; turns that were taken or
// waited for under the old one lose nothing.
func TestSetWithTurnsTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(limit.Limits{ConcurrentHandshakes: 1})
		old, waiting := l.Turn(), l.Turn()
		old.Try()
		waited := make(chan error, 1)
		go func() { waited <- waiting.Take(t.Context()) }()
		synctest.Wait()
		l.Set(limit.Limits{ConcurrentHandshakes: 2, Connections: 1})
		l.Set(limit.Limits{ConcurrentHandshakes: 2, Connections: 2}) // the same bound
		a, b, c := l.Turn(), l.Turn(), l.Turn()
		if !a.Try() || !b.Try() || c.Try() {
			t.Error("the new bound does not hold")
		}
		old.Yield()
		if err := <-waited; err != nil {
			t.Error(err)
		}
		waiting.Yield()
		l.Set(limit.Limits{}) // none
		if !c.Try() {
			t.Error("there is still a bound")
		}
		a.Yield()
		c.Yield()
	})
}
