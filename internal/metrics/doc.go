// Package metrics holds every Prometheus collector of the program, behind
// methods with typed arguments, so that no caller can invent a series.
//
// There is one type for each place that counts: [Proxy] for the sessions,
// [Certificates] for the certificate directory and [Process] for the program
// itself. Each registers its collectors with the registerer it is given, never
// with the default one, and panics, as MustRegister does, when it is given the
// same one twice.
//
// Label values come from closed sets: the constants of this package, the names
// in the configuration, the folders of the certificate directory, and what
// crypto/tls can negotiate. Nothing that a client says becomes a label, so a
// client cannot grow the number of series. Series whose labels are known
// beforehand start at 0, for rate() and alerts to see their first event.
//
// All methods are safe for concurrent use. The handles [Listener] and
// [Backend] have their series resolved; counting on them looks up no label.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// namespace is the prefix of every family made here.
const namespace = "smtp_tlsproxy"

// none is the label value for what did not come to be: the backend of a
// session that ended before one was chosen, the cipher of a failed handshake.
const none = "none"

// other is the label value for what has no name in a closed set.
const other = "other"

// The classic buckets, for servers that do not scrape native histograms.
var (
	exchangeBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	sessionBuckets  = []float64{.1, .5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600}
)

// registry makes and registers families under our prefix.
type registry struct{ prometheus.Registerer }

func (r registry) counters(name, help string, labels ...string) *prometheus.CounterVec {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	r.MustRegister(vec)
	return vec
}

func (r registry) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	r.MustRegister(vec)
	return vec
}

// histograms are native and classic at once; the server that scrapes chooses.
// The reset bounds what a client that varies its delays can make us hold.
func (r registry) histograms(name, help string, buckets []float64, label string) *prometheus.HistogramVec {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help,
		Buckets:                         buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  100,
		NativeHistogramMinResetDuration: time.Hour,
	}, []string{label})
	r.MustRegister(vec)
	return vec
}

// set holds a counter for each value of a closed set of label values.
type set[V ~string] map[V]prometheus.Counter

// newSet starts the counters at 0. The family's last label takes the values,
// the labels before it stay the same.
func newSet[V ~string](vec *prometheus.CounterVec, values []V, labels ...string) set[V] {
	s := make(set[V], len(values))
	for _, v := range values {
		s[v] = vec.WithLabelValues(append(labels[:len(labels):len(labels)], string(v))...)
	}
	return s
}

// inc counts value; what is not in the set is not counted.
func (s set[V]) inc(value V) {
	if c, ok := s[value]; ok {
		c.Inc()
	}
}
