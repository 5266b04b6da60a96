package main

import (
	"crypto/tls"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

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
	from    directory
	log     *slog.Logger
	denied  func(error) string // why, besides permissions
	metrics *metrics.Certificates
	proxy   *proxy.Metrics

	mu        sync.Mutex
	inService bool
	replaced  bool // another directory is in service
	untold    []func()
	indexed   int
	broken    map[string]string // by folder, why; "" is the directory
}

// directory is what a store is opened with; with another one it is opened anew.
type directory struct {
	config.Certificates
	stapling config.Stapling
}

func directoryOf(cfg *config.Config) directory {
	auto := slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool { return l.TLS.Stapling == config.StaplingAuto })
	if auto {
		return directory{cfg.Certificates, config.StaplingAuto} // the others leave it out
	}
	return directory{cfg.Certificates, config.StaplingOff}
}

// stapling is the word of package sni.
func stapling(s config.Stapling) sni.OCSP {
	switch s {
	case config.StaplingAuto:
		return sni.OCSPAuto
	case config.StaplingOff:
		return sni.OCSPOff
	}
	return 0 // not set
}

// openCertificates opens the directory that the configuration names.
func openCertificates(from directory, i *instance) (*certificates, error) {
	c := &certificates{
		from: from, log: i.log.Logger, denied: i.whyDenied, metrics: i.certificateMetrics, proxy: i.proxyMetrics,
		broken: make(map[string]string),
	}
	var err error
	c.Store, err = sni.Open(from.Directory, sni.Options{
		Default: from.Default, Cache: from.Cache, Rescan: from.Rescan, OCSP: stapling(from.stapling),
		FolderOptions: readFolder, Events: c.events(),
	})
	return c, err
}

func (c *certificates) events() sni.Events {
	return sni.Events{
		Indexed: func(folders int) { c.tell(func() { c.indexed = folders }) },
		Loaded: func(folder string, id *sni.Identity) {
			c.tell(func() { c.serve("certificate loaded", id) })
		},
		Renewed: func(folder string, id *sni.Identity) {
			c.tell(func() { c.serve("certificate renewed", id) })
		},
		Evicted: func(folder string) { c.tell(func() { c.proxy.RemoveDomain(folder) }) },
		Removed: func(folder string) {
			c.tell(func() {
				c.proxy.RemoveDomain(folder)
				delete(c.broken, folder)
				c.log.Info("certificate removed", "domain", folder)
			})
		},
		Failed: func(folder string, err error) {
			c.tell(func() {
				text := err.Error() + c.denied(err)
				c.broken[folder] = text
				c.metrics.Failed()
				c.log.Error("certificate not usable", "domain", folder, "error", text)
			})
		},
		Mended: func(folder string) {
			c.tell(func() {
				delete(c.broken, folder)
				c.log.Info("certificate usable again", "domain", folder)
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
		Stapled: func(folder string, cert *tls.Certificate, until time.Time) {
			c.tell(func() { c.log.Debug("OCSP response stapled", "domain", folder, "until", until) })
		},
	}
}

func (c *certificates) tell(event func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.replaced: // a session that began before loaded a folder
	case c.inService:
		event()
	default:
		c.untold = append(c.untold, event)
	}
}

func (c *certificates) serve(what string, id *sni.Identity) {
	c.metrics.Loaded()
	c.proxy.AddDomain(id.Folder)
	c.log.Info(what, "domain", id.Folder, "not_after", id.NotAfter())
}

// takeOver comes into service in place of another directory, or of none. The
// series of a folder that both have stay, so that no scrape misses them.
func (c *certificates) takeOver(old *certificates) {
	if old != nil {
		patiently(func() { _ = old.Close() }) // ends its watches; sessions may still load from it
		old.mu.Lock()
		old.replaced = true
		old.mu.Unlock()
		stays := make(map[string]bool)
		for folder := range c.Store.Loaded() {
			stays[folder] = true
		}
		for folder := range old.Store.Loaded() {
			if !stays[folder] {
				c.proxy.RemoveDomain(folder)
			}
		}
	}
	c.mu.Lock()
	c.inService = true
	for _, event := range c.untold {
		event()
	}
	c.untold = nil
	c.mu.Unlock()
	c.metrics.Follow(c.state)
}

// state is what the metrics show.
func (c *certificates) state() metrics.CertificateState {
	c.mu.Lock()
	defer c.mu.Unlock()
	loaded := 0
	for range c.Store.Loaded() {
		loaded++
	}
	return metrics.CertificateState{
		Indexed: c.indexed,
		Loaded:  loaded,
		Expiries: func(yield func(metrics.Expiry) bool) {
			for folder, all := range c.Expiries() {
				for _, e := range all {
					if !yield(metrics.Expiry{Domain: folder, KeyType: e.KeyType, NotAfter: e.NotAfter}) {
						return
					}
				}
			}
		},
		Failed: slices.Values(slices.Sorted(maps.Keys(c.broken))),
	}
}
