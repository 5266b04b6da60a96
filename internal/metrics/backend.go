package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Backend counts what happens towards one backend; [Proxy.Backend] makes it.
type Backend struct {
	name     string
	dialTime prometheus.Observer
	errors   set[BackendError]
	removed  atomic.Bool
}

func newBackend(p *Proxy, name string) *Backend {
	return &Backend{
		name:     name,
		dialTime: p.dialDuration.WithLabelValues(name),
		errors:   newSet(p.backendErrors, backendErrors, name),
	}
}

// Dialed counts the time that a successful connection took to come about.
func (b *Backend) Dialed(took time.Duration) { b.dialTime.Observe(took.Seconds()) }

// Error counts a connection that failed, or a greeting that was not 220.
func (b *Backend) Error(reason BackendError) { b.errors.inc(reason) }

// label is the value of the label backend; b may be nil.
func (b *Backend) label() string {
	if b == nil {
		return none
	}
	return b.name
}

func (b *Backend) isRemoved() bool { return b != nil && b.removed.Load() }
