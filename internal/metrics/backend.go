package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Backend counts what happens towards one backend; [Proxy.Backend] makes it.
type Backend struct {
	name     string
	dialTime prometheus.Observer
	errors   set[BackendError]
	checks   set[result]
	up       *prometheus.GaugeVec

	mu      sync.Mutex // held where series are made, for none to come back
	removed atomic.Bool
}

func newBackend(p *Proxy, name string) *Backend {
	return &Backend{
		name:     name,
		dialTime: p.dialDuration.WithLabelValues(name),
		errors:   newSet(p.backendErrors, backendErrors, name),
		checks:   newSet(p.healthChecks, results, name),
		up:       p.backendUp,
	}
}

// Dialed counts the time that a successful connection took to come about.
func (b *Backend) Dialed(took time.Duration) { b.dialTime.Observe(took.Seconds()) }

// Error counts a connection that failed, or a greeting that was not 220.
func (b *Backend) Error(reason BackendError) { b.errors.inc(reason) }

// AddressUp tells that an address is in service; its series begins with that
// or with AddressDown.
func (b *Backend) AddressUp(address string) { b.setUp(address, 1) }

// AddressDown tells that an address is out of service, or not known to be in
// it as yet.
func (b *Backend) AddressDown(address string) { b.setUp(address, 0) }

func (b *Backend) setUp(address string, value float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.removed.Load() {
		b.up.WithLabelValues(b.name, address).Set(value)
	}
}

// RemoveAddress deletes the series of an address that is gone.
func (b *Backend) RemoveAddress(address string) { b.up.DeleteLabelValues(b.name, address) }

// CheckSucceeded counts a good health check.
func (b *Backend) CheckSucceeded() { b.checks.inc(resultSuccess) }

// CheckFailed counts a bad health check.
func (b *Backend) CheckFailed() { b.checks.inc(resultError) }

// remove ends the making of series. The caller deletes those there are.
func (b *Backend) remove() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.removed.Store(true)
}

// label is the value of the label backend; b may be nil.
func (b *Backend) label() string {
	if b == nil {
		return none
	}
	return b.name
}

func (b *Backend) isRemoved() bool { return b != nil && b.removed.Load() }
