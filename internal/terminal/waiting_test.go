package terminal

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

func TestWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got bytes.Buffer
		w := Output{Writer: &got, width: 80}.Waiting()
		w.For("the greeting")
		time.Sleep(quiet / 2)
		w.For("the handshake") // the greeting came in time
		time.Sleep(2 * quiet)
		synctest.Wait()
		if want := "waiting: the handshake …"; got.String() != want {
			t.Fatalf("%q, want %q", &got, want)
		}
		w.Done()
		time.Sleep(2 * quiet)
		synctest.Wait()
		if want := "waiting: the handshake …\r\x1b[K"; got.String() != want {
			t.Errorf("%q, want %q", &got, want)
		}
	})
	var nothing bytes.Buffer
	w := New(&nothing).Waiting()
	w.For("a program")
	w.Done()
	if nothing.Len() > 0 {
		t.Errorf("%q, where no person looks", &nothing)
	}
}
