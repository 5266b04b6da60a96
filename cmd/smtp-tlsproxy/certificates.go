package main

import (
	"crypto/x509"
	"log/slog"
	"sync"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// certificates is a certificate directory, and the log and the metrics that
// tell what happens in it. What happened before it came into service is told
// then; of one that never did, nothing is.
type certificates struct {
	*sni.Store
	from    config.Certificates
	log     *slog.Logger
	metrics *metrics.Certificates
	proxy   *proxy.Metrics

	mu        sync.Mutex
	inService bool
	untold    []func()
}

// openCertificates opens the directory that the configuration names.
func openCertificates(from config.Certificates, i *instance) (*certificates, error) {
	c := &certificates{from: from, log: i.log.Logger, metrics: i.certificateMetrics, proxy: i.proxyMetrics}
	var err error
	c.Store, err = sni.Open(from.Directory, sni.Options{Default: from.Default, Rescan: from.Rescan, Events: c.events()})
	return c, err
}

func (c *certificates) events() sni.Events {
	return sni.Events{
		Indexed: func(folders int) { c.tell(func() { c.metrics.Indexed(folders) }) },
		Loaded: func(folder string, id *sni.Identity) {
			c.tell(func() { c.serve("certificate loaded", folder, id) })
		},
		Renewed: func(folder string, id *sni.Identity) {
			c.tell(func() { c.serve("certificate renewed", folder, id) })
		},
		Evicted: func(folder string) { c.tell(func() { c.forget(folder) }) },
		Removed: func(folder string) {
			c.tell(func() {
				c.forget(folder)
				c.log.Info("certificate removed", "domain", folder)
			})
		},
		Failed: func(folder string, err error) {
			c.tell(func() {
				c.metrics.Failed()
				c.log.Error("certificate not usable", "domain", folder, "error", err)
			})
		},
		Warning: func(folder, text string) {
			c.tell(func() { c.log.Warn("certificate", "domain", folder, "warning", text) })
		},
		Expiring: func(folder string, e sni.Expiry, days int) {
			c.tell(func() {
				c.log.Warn("certificate expires", "domain", folder, "key_type", e.KeyType, "not_after", e.NotAfter, "within_days", days)
			})
		},
	}
}

func (c *certificates) tell(event func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inService {
		c.untold = append(c.untold, event)
		return
	}
	event()
}

func (c *certificates) serve(what, folder string, id *sni.Identity) {
	var leaves []*x509.Certificate
	for _, cert := range id.Certificates {
		leaves = append(leaves, cert.Leaf)
	}
	c.metrics.Loaded(folder, leaves...)
	c.proxy.AddDomain(folder)
	c.log.Info(what, "domain", folder, "not_after", id.NotAfter())
}

func (c *certificates) forget(folder string) {
	c.metrics.Removed(folder)
	c.proxy.RemoveDomain(folder)
}

// takeOver comes into service in place of another directory, or of none. The
// series of a folder that both have stay, so that no scrape misses them.
func (c *certificates) takeOver(old *certificates) {
	if old != nil {
		_ = old.Close() // ends its watches; sessions may still load from it
		stays := make(map[string]bool)
		for folder := range c.Loaded() {
			stays[folder] = true
		}
		for folder := range old.Loaded() {
			if !stays[folder] {
				c.forget(folder)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inService = true
	for _, event := range c.untold {
		event()
	}
	c.untold = nil
}
