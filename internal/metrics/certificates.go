package metrics

import (
	"iter"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Certificates counts what becomes of the certificate directory. Make one with
// [NewCertificates]. What there is now it asks for at each scrape: a hundred
// thousand domains would else hold as many series in memory all the time.
type Certificates struct {
	reloads     set[result]
	lastSuccess prometheus.Gauge
	state       atomic.Pointer[func() CertificateState]

	notAfter, failed, indexed, loaded *prometheus.Desc
}

// CertificateState is what there is at one moment. Domains are folder names.
type CertificateState struct {
	Indexed, Loaded int
	Expiries        iter.Seq[Expiry]
	Failed          iter.Seq[string] // domains that cannot be served, or not renewed
}

// Expiry is when the certificate of a domain and key type expires.
type Expiry struct {
	Domain, KeyType string
	NotAfter        time.Time
}

// NewCertificates registers the families of the certificates with reg.
func NewCertificates(reg prometheus.Registerer) *Certificates {
	r := registry{reg}
	reloads := r.counters("certificate_reloads_total",
		"Certificates taken into service, the first time included, and faults that kept some out.", "result")
	c := &Certificates{
		reloads: newSet(reloads, results),
		lastSuccess: r.gauges("certificate_last_reload_success_timestamp_seconds",
			"When certificates were last taken into service, in seconds since 1970.").WithLabelValues(),
		notAfter: describe("certificate_not_after_timestamp_seconds",
			"When the certificate expires, in seconds since 1970.", "domain", "key_type"),
		failed: describe("certificate_load_failed",
			"1 for a folder whose certificate can not be served, or not be renewed.", "domain"),
		indexed: describe("certificates_indexed", "Folders in the certificate directory that can be served."),
		loaded:  describe("certificates_loaded", "Folders whose certificates are in memory."),
	}
	r.MustRegister(c)
	return c
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// Follow shows from now on what state returns. It is called at each scrape, and
// its sequences after it returned.
func (c *Certificates) Follow(state func() CertificateState) { c.state.Store(&state) }

// Loaded counts certificates that came into service.
func (c *Certificates) Loaded() {
	c.reloads.inc(resultSuccess)
	c.lastSuccess.SetToCurrentTime()
}

// Failed counts a folder whose certificates could not be taken into service. A
// fault that lasts is one fault, as package sni reports it.
func (c *Certificates) Failed() { c.reloads.inc(resultError) }

// Describe is for Prometheus.
func (c *Certificates) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.notAfter, c.failed, c.indexed, c.loaded} {
		out <- desc
	}
}

// Collect is for Prometheus.
func (c *Certificates) Collect(out chan<- prometheus.Metric) {
	var now CertificateState
	if state := c.state.Load(); state != nil {
		now = (*state)()
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(c.indexed, float64(now.Indexed))
	gauge(c.loaded, float64(now.Loaded))
	if now.Expiries != nil {
		for e := range now.Expiries {
			gauge(c.notAfter, float64(e.NotAfter.Unix()), e.Domain, e.KeyType)
		}
	}
	if now.Failed != nil {
		for domain := range now.Failed {
			gauge(c.failed, 1, domain)
		}
	}
}
