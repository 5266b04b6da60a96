package metrics

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Counted is what was counted of clients until now, read from the very
// counters that Prometheus scrapes.
type Counted struct {
	Listeners  map[string]ListenerCount // by name
	Negotiated []Negotiated             // in no order
}

// ListenerCount is what a listener has counted since it began.
type ListenerCount struct {
	Open   int // connections
	Done   uint64
	Failed uint64
}

// Negotiated is how many handshakes a listener had that ended alike.
type Negotiated struct {
	Listener, Version, Cipher, Group string
	Resumed                          bool
	Count                            uint64
}

// Counted reads the counters. Nothing that counts waits for it.
func (p *Proxy) Counted() (Counted, error) {
	families, err := p.shown.Gather()
	if err != nil {
		return Counted{}, fmt.Errorf("reading the metrics: %w", err)
	}
	now := Counted{Listeners: make(map[string]ListenerCount)}
	for _, family := range families {
		for _, series := range family.GetMetric() {
			labels := make(map[string]string)
			for _, label := range series.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			listener := now.Listeners[labels["listener"]]
			count := uint64(series.GetCounter().GetValue())
			switch {
			case family.GetName() == namespace+"_connections_open":
				listener.Open = int(series.GetGauge().GetValue())
			case labels["result"] == "failed":
				listener.Failed += count
			default:
				listener.Done += count
				now.Negotiated = append(now.Negotiated, Negotiated{
					labels["listener"], labels["version"], labels["cipher"], labels["group"], labels["resumed"] == "true", count,
				})
			}
			now.Listeners[labels["listener"]] = listener
		}
	}
	return now, nil
}

// shownOf is a registry of what Counted reads, so that it does not gather what
// it does not show, such as the dates of a hundred thousand certificates.
func shownOf(collectors ...prometheus.Collector) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors...)
	return reg
}

const (
	// SampleEvery is how often [Recent.Sample] is to be called. It reads a few
	// dozen counters.
	SampleEvery = 5 * time.Second
	// samples reach back one minute.
	samples = int(time.Minute/SampleEvery) + 1
)

// Recent tells what was counted over the last minute, for which handshakes do
// nothing: it remembers what the counters said a few seconds ago. The zero
// value remembers nothing.
type Recent struct {
	mu   sync.Mutex
	ring [samples]sample
	next int
}

type sample struct {
	at        time.Time
	listeners map[string]ListenerCount
}

// Sample remembers what was counted until now.
func (r *Recent) Sample(at time.Time, now Counted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring[r.next] = sample{at, now.Listeners}
	r.next = (r.next + 1) % samples
}

// Since returns how long before at the oldest sample of the last minute was
// taken, and by how much each listener's counters have grown since. A listener
// that is newer has grown from 0. The time is 0 where there is no sample.
func (r *Recent) Since(at time.Time, now Counted) (time.Duration, map[string]ListenerCount) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var oldest sample
	for i := range samples { // from the oldest on
		s := r.ring[(r.next+i)%samples]
		if !s.at.IsZero() && at.Sub(s.at) <= time.Minute {
			oldest = s
			break
		}
	}
	if oldest.at.IsZero() {
		return 0, nil
	}
	grown := make(map[string]ListenerCount)
	for name, count := range now.Listeners {
		before := oldest.listeners[name]
		if before.Done > count.Done || before.Failed > count.Failed {
			before = ListenerCount{} // the name was given to another listener, which began at 0
		}
		grown[name] = ListenerCount{Open: count.Open, Done: count.Done - before.Done, Failed: count.Failed - before.Failed}
	}
	return at.Sub(oldest.at), grown
}
