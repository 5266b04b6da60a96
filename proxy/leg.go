package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// leg is one of the two connections of a relay. It counts, and tells the idle
// watch of every byte.
type leg struct {
	net.Conn
	idle   *idleWatch
	sent   *atomic.Uint64
	count  func(bytes int)
	broken atomic.Bool // it failed, other than by the end of its stream
	now    *clientConn // below Conn, if it is a client's under TLS
}

func (l *leg) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	l.used(err)
	return n, err
}

func (l *leg) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	l.used(err)
	l.sent.Add(uint64(n))
	l.count(n)
	return n, err
}

func (l *leg) used(err error) {
	l.idle.touch()
	if err != nil && !errors.Is(err, io.EOF) {
		l.broken.Store(true)
	}
}

// idleWatch calls a function once when nothing was used for a while. A use
// costs a reading of the clock and moves no timer.
type idleWatch struct {
	limit   time.Duration
	expired func()
	began   time.Time
	last    atomic.Int64 // when it was last used, since began
	timer   *time.Timer
	mu      sync.Mutex // guards timer
}

func newIdleWatch(limit time.Duration, expired func()) *idleWatch {
	return &idleWatch{limit: limit, expired: expired, began: time.Now()}
}

// start begins the watch. What expired needs must be there by then.
func (w *idleWatch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.limit, w.look)
}

func (w *idleWatch) touch() { w.last.Store(int64(time.Since(w.began))) }

// look runs when the limit may have passed.
func (w *idleWatch) look() {
	rest := w.limit - (time.Since(w.began) - time.Duration(w.last.Load()))
	if rest <= 0 {
		w.expired()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Reset(rest)
	}
}

func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.timer = nil
}
