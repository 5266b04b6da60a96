package main

import (
	"crypto/tls"
	"sync"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/measure"
)

// growth is what idle sessions cost a server that has just been started.
type growth struct {
	Server string  `json:"server"`
	Start  float64 `json:"start_mb"` // PSS without sessions
	// KB is the PSS that each of so many sessions adds, Sessions tells how many.
	Sessions []int     `json:"sessions"`
	KB       []float64 `json:"kb_each"`
	CPU      float64   `json:"idle_cpu_ms_per_s"` // with the most sessions
}

const (
	// settle is what a server gets to put its memory in order.
	settle = 8 * time.Second
	// idleFor is how long the CPU of idle sessions is counted.
	idleFor = 10 * time.Second
)

// measureIdle opens more and more sessions that wait after EHLO.
func measureIdle(s server, dir, certs string, sink [2]string, steps []int) (g growth, err error) {
	p, err := s.start(dir, certs, sink)
	if err != nil {
		return g, err
	}
	defer func() { _ = p.stop() }()
	w := way{port: implicit, name: ecdsaName, group: tls.X25519}
	if err := w.sessions(p.addresses[implicit], 100); err != nil { // the code is in memory
		return g, err
	}
	time.Sleep(settle)
	start := p.pss()
	g = growth{Server: s.name, Start: measure.MB(start)}
	var open []*session
	defer func() {
		for _, s := range open {
			_ = s.conn.Close()
		}
	}()
	for _, n := range steps {
		more, err := w.openMany(p.addresses[implicit], n-len(open))
		open = append(open, more...)
		if err != nil {
			return g, err
		}
		time.Sleep(settle)
		g.Sessions = append(g.Sessions, n)
		g.KB = append(g.KB, float64(p.pss()-start)/1024/float64(n))
	}
	before := p.cpu()
	time.Sleep(idleFor)
	g.CPU = float64(p.cpu()-before) / float64(time.Millisecond) / idleFor.Seconds()
	return g, nil
}

// openMany opens sessions that stay.
func (w way) openMany(address string, n int) (open []*session, err error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for i := c; i < n; i += clients {
				s, _, failed := w.open(address)
				mu.Lock()
				if failed != nil {
					err = failed
					mu.Unlock()
					return
				}
				_ = s.conn.SetDeadline(time.Time{})
				s.in = nil // what it read into is not needed any more
				open = append(open, s)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return open, err
}
