package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// world is the proxy with all around it.
type world struct {
	ledger *ledger
	sinks  []*sink
	proxy  *proxy

	bytes    atomic.Int64 // of messages that were accepted
	kills    atomic.Int64 // odd while one backend is dead
	back     atomic.Int64 // when the last one was back, in Unix nanoseconds
	flooding sync.WaitGroup

	mu         sync.Mutex
	counts     map[string]map[string]int // kind of counter, and name
	violations []string
}

func newWorld() (*world, error) {
	w := &world{ledger: newLedger(), counts: make(map[string]map[string]int)}
	for range 2 {
		s, err := newSink(w.ledger)
		if err != nil {
			return nil, err
		}
		w.sinks = append(w.sinks, s)
	}
	var err error
	w.proxy, err = startProxy(w.sinks, w.killing)
	return w, err
}

// killing tells whether what happens may come of a backend that was killed.
func (w *world) killing() bool {
	return w.kills.Load()%2 == 1 || time.Since(time.Unix(0, w.back.Load())) < time.Second
}

func (w *world) count(kind, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.counts[kind] == nil {
		w.counts[kind] = make(map[string]int)
	}
	w.counts[kind][name]++
}

// maxViolations is how many are kept: more say the same.
const maxViolations = 30

func (w *world) violation(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.violations) < maxViolations {
		w.violations = append(w.violations, fmt.Sprintf(format, args...))
	}
}

// load has clients come one behind the other, each of so many workers, with
// all the trouble there is or without, until the context ends. It returns when
// the last one is done.
func (w *world) load(ctx context.Context, withTrouble bool) {
	var all sync.WaitGroup
	for range *workers {
		all.Go(func() {
			caches := make([]tls.ClientSessionCache, len(ways))
			for i := range caches {
				caches[i] = tls.NewLRUClientSessionCache(4)
			}
			for ctx.Err() == nil {
				i := rand.N(len(ways))
				w.client(ways[i], choose(), caches[i])
			}
		})
	}
	if withTrouble {
		for _, t := range troubles {
			all.Go(func() { t.make(ctx, w) })
		}
	}
	all.Wait()
	w.flooding.Wait()
}

// choose is an act, each by its share.
func choose() act {
	n := rand.N(100)
	for _, a := range acts {
		if n -= a.share; n < 0 {
			return a
		}
	}
	return acts[0]
}

// client is one session from its begin to its end.
func (w *world) client(way way, act act, cache tls.ClientSessionCache) {
	s := &session{way: way, w: w}
	kills := w.kills.Load()
	err := s.open(cache)
	if err == nil {
		err = act.do(s)
	}
	if s.conn != nil {
		s.conn.Close()
	}
	w.count("way", way.name)
	w.count("act", act.name)
	if s.resumed {
		w.count("resumed", way.name)
	}
	if err == nil {
		return
	}
	why := reason(err)
	w.count("failure", why)
	killed := kills%2 == 1 || w.kills.Load() != kills
	if network, ok := errors.AsType[net.Error](err); !s.reached || !killed || ok && network.Timeout() {
		w.violation("a client (%s, %s) failed: %v", way.name, act.name, err)
	}
}

// reason sorts what a client met.
func reason(err error) string {
	reply, refused := errors.AsType[errReply](err)
	switch {
	case refused && strings.HasPrefix(reply.got, "421"):
		return "421"
	case refused:
		return "another reply"
	case errors.Is(err, io.EOF):
		return "the end of the stream"
	}
	return "a broken connection"
}
