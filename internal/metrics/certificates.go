package metrics

import (
	"crypto/x509"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Certificates counts what becomes of the certificate directory. Make one with
// [NewCertificates].
type Certificates struct {
	notAfter    *prometheus.GaugeVec
	indexed     prometheus.Gauge
	loaded      prometheus.Gauge
	reloads     set[result]
	lastSuccess prometheus.Gauge

	mu       sync.Mutex
	expiries map[string]expiry // by domain
}

// expiry is, by key type, when the certificates of a domain expire.
type expiry map[string]float64

// NewCertificates registers the families of the certificates with reg.
func NewCertificates(reg prometheus.Registerer) *Certificates {
	r := registry{reg}
	reloads := r.counters("certificate_reloads_total",
		"Certificates taken into service, the first time included, and faults that kept some out.", "result")
	return &Certificates{
		notAfter: r.gauges("certificate_not_after_timestamp_seconds",
			"When the certificate in service expires, in seconds since 1970.", "domain", "key_type"),
		indexed: r.gauges("certificates_indexed",
			"Folders in the certificate directory that can be served.").WithLabelValues(),
		loaded: r.gauges("certificates_loaded",
			"Certificates in memory.").WithLabelValues(),
		reloads: newSet(reloads, results),
		lastSuccess: r.gauges("certificate_last_reload_success_timestamp_seconds",
			"When certificates were last taken into service, in seconds since 1970.").WithLabelValues(),
		expiries: make(map[string]expiry),
	}
}

// Indexed sets how many folders there are.
func (c *Certificates) Indexed(folders int) { c.indexed.Set(float64(folders)) }

// Loaded counts that a domain's certificates came into service: leaves are all that it
// now serves, and replace those it served before. Domain is the folder's name.
func (c *Certificates) Loaded(domain string, leaves ...*x509.Certificate) {
	now := make(expiry, len(leaves))
	for _, leaf := range leaves {
		kind, at := keyType(leaf), float64(leaf.NotAfter.Unix())
		if earlier, ok := now[kind]; !ok || at < earlier {
			now[kind] = at
		}
	}
	c.replace(domain, now)
	c.reloads.inc(resultSuccess)
	c.lastSuccess.SetToCurrentTime()
}

// Failed counts a folder whose certificates could not be taken into service. A
// fault that lasts is one fault, as package sni reports it.
func (c *Certificates) Failed() { c.reloads.inc(resultError) }

// Removed deletes the series of a domain that is no longer in memory.
func (c *Certificates) Removed(domain string) { c.replace(domain, nil) }

// replace shows the new expiries before it deletes the series of key types
// that are gone, so that no scrape finds a domain without any.
func (c *Certificates) replace(domain string, now expiry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, at := range now {
		c.notAfter.WithLabelValues(domain, kind).Set(at)
	}
	last := c.expiries[domain]
	for kind := range last {
		if _, kept := now[kind]; !kept {
			c.notAfter.DeleteLabelValues(domain, kind)
		}
	}
	c.loaded.Add(float64(len(now) - len(last)))
	if now == nil {
		delete(c.expiries, domain)
		return
	}
	c.expiries[domain] = now
}

func keyType(leaf *x509.Certificate) string {
	switch leaf.PublicKeyAlgorithm {
	case x509.RSA:
		return "rsa"
	case x509.ECDSA:
		return "ecdsa"
	case x509.Ed25519:
		return "ed25519"
	}
	return "other"
}
