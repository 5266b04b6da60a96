package main

import (
	"cmp"
	"os"
	"slices"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/admin"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// shown is what is in force. It never changes, so that the pages of the admin
// address can read it at any time.
type shown struct {
	since        time.Time
	config       *config.Config
	certificates *certificates
	listeners    []admin.Listener // without what is counted
}

// refusal is a reload that changed nothing.
type refusal struct {
	at  time.Time
	why string
}

// show puts what is in force before the eyes of those who ask.
func (i *instance) show() {
	s := &shown{since: time.Now(), config: i.config, certificates: i.certificates}
	for _, l := range i.config.Listeners {
		s.listeners = append(s.listeners, admin.Listener{
			Name: l.Name, Address: i.server.Addr(l.Name).String(), Mode: string(l.Mode), STARTTLS: string(l.STARTTLS),
			Backend: l.Backend, TrustedProxies: trustedOf(l),
		})
	}
	i.shown.Store(s)
}

// status is for admin.Config.
func (i *instance) status(query admin.Query) admin.Status {
	at := time.Now()
	now := admin.Status{
		Version: build().Version, At: at.UTC().Round(time.Millisecond), StartedAt: i.began.UTC().Round(time.Millisecond),
		UptimeSeconds: int64(at.Sub(i.began) / time.Second), Draining: i.draining.Load(),
	}
	now.Host, _ = os.Hostname() // without a name it is not told
	if err := i.ready(); err != nil {
		now.Reason = escape.Text(err.Error(), "\n\t") // a backend's certificate and replies may be in it
	} else {
		now.Ready = true
	}
	s := i.shown.Load()
	if s == nil {
		return now
	}
	now.Configuration.InForceSince = s.since.UTC().Round(time.Millisecond)
	if refused := i.refused.Load(); refused != nil {
		now.Configuration.Refused, now.Configuration.RefusedAt = escape.Text(refused.why, "\n\t"), unlessZero(refused.at)
	}
	i.count(&now, s.listeners, at)
	now.Backends = backendStatuses(i.server.Backends())
	now.Certificates = s.certificates.status(query, at)
	now.Failures = failures(i.server.Failures())
	return now
}

// sample remembers every few seconds what was counted, until done is closed:
// the rates of the last minute come from that.
func (i *instance) sample(done <-chan struct{}) {
	i.recent.Sample(i.began, metrics.Counted{})
	every := time.NewTicker(metrics.SampleEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-done:
			return
		}
		if counted, err := i.proxyMetrics.Counted(); err == nil {
			i.recent.Sample(time.Now(), counted)
		}
	}
}

// count tells what the metrics have counted. The time is one that the samples
// can be held against though the machine's clock was set: now.At is not.
func (i *instance) count(now *admin.Status, listeners []admin.Listener, at time.Time) {
	now.Listeners = slices.Clone(listeners)
	counted, err := i.proxyMetrics.Counted()
	if err != nil { // which would be a bug in a collector, and /metrics tells it, too
		i.log.Error("status page", "error", err)
		return
	}
	lasted, grown := i.recent.Since(at, counted)
	for n := range now.Listeners {
		l := &now.Listeners[n]
		all, last := counted.Listeners[l.Name], grown[l.Name]
		l.Connections = all.Open
		l.Handshakes = admin.HandshakesOf(all.Done, all.Failed)
		l.LastMinute = admin.HandshakesOf(last.Done, last.Failed)
		l.HandshakesPerSecond = float64(l.LastMinute.Count) / max(1, lasted.Seconds()) // just after the start less than a second
	}
	now.TLS = mixOf(counted.Negotiated)
}

// mixOf sums up what handshakes agreed on, the most frequent first.
func mixOf(negotiated []metrics.Negotiated) admin.TLS {
	var sum admin.TLS
	versions, ciphers, groups := map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	for _, n := range negotiated {
		sum.Handshakes += n.Count
		if n.Resumed {
			sum.Resumed += n.Count
		}
		versions[n.Version] += n.Count
		ciphers[n.Cipher] += n.Count
		groups[n.Group] += n.Count
	}
	sum.ResumedShare = float64(sum.Resumed) / float64(max(1, sum.Handshakes))
	sum.Versions, sum.Ciphers, sum.Groups = shares(versions, sum.Handshakes), shares(ciphers, sum.Handshakes), shares(groups, sum.Handshakes)
	return sum
}

func shares(counts map[string]uint64, whole uint64) []admin.Share {
	all := []admin.Share{}
	for name, count := range counts {
		all = append(all, admin.Share{Name: name, Count: count, Share: float64(count) / float64(max(1, whole))})
	}
	slices.SortFunc(all, func(a, b admin.Share) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	return all
}

func backendStatuses(backends []proxy.BackendStatus) []admin.Backend {
	all := []admin.Backend{}
	for _, b := range backends {
		now := admin.Backend{Name: b.Name, Hostname: b.Hostname, Keywords: b.Keywords, Addresses: []admin.Address{}}
		for _, a := range b.Addresses {
			one := admin.Address{
				Address: a.Address, Host: a.Host, State: a.State.String(), Since: unlessZero(a.Since),
				Connections: a.Open, LastErrorAt: unlessZero(a.LastErrorAt),
			}
			if a.LastError != nil {
				one.LastError = escape.Text(a.LastError.Error(), "")
			}
			now.Addresses = append(now.Addresses, one)
		}
		all = append(all, now)
	}
	return all
}

func failures(newest []proxy.Failure) []admin.Failure {
	all := []admin.Failure{}
	for _, f := range newest {
		all = append(all, admin.Failure{
			At: f.At.UTC().Round(time.Millisecond), Listener: f.Listener, Client: f.Client, ServerName: f.ServerName,
			Reason: string(f.Reason), Alert: f.Alert, Meaning: f.Reason.Meaning(), Mend: f.Reason.Mend(), Detail: f.Detail,
		})
	}
	return all
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Round(time.Millisecond)
	return &t
}
