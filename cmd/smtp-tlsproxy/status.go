package main

import (
	"maps"
	"net/netip"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// shown is what is in force. It never changes, so that the pages of the admin
// address can read it at any time.
type shown struct {
	since        time.Time
	config       *config.Config
	certificates *certificates
	listeners    []listenerStatus
}

// status is /status.json.
type status struct {
	Version       string              `json:"version"`
	Ready         bool                `json:"ready"`
	Reason        string              `json:"reason,omitempty"` // why not
	Configuration configurationStatus `json:"configuration"`
	Listeners     []listenerStatus    `json:"listeners"`
	Backends      []backendStatus     `json:"backends"`
	Certificates  certificatesStatus  `json:"certificates"`
}

type configurationStatus struct {
	InForceSince time.Time `json:"in_force_since"`
	Refused      string    `json:"refused,omitempty"` // why the last reload changed nothing
}

type listenerStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Mode    string `json:"mode"`
	Backend string `json:"backend"`
	// TrustedProxies are the load balancers of which a PROXY header is wanted.
	TrustedProxies []netip.Prefix `json:"proxy_protocol_trusted,omitempty"`
}

type backendStatus struct {
	Name      string          `json:"name"`
	Hostname  string          `json:"hostname,omitempty"` // what the newest good health check heard
	Keywords  []string        `json:"keywords,omitempty"` // likewise: what EHLO offers before TLS
	Addresses []addressStatus `json:"addresses"`
}

type addressStatus struct {
	Address     string     `json:"address"`
	Host        string     `json:"host,omitempty"` // the name that it was looked up from
	State       string     `json:"state"`
	Since       *time.Time `json:"since,omitempty"`
	Connections int        `json:"connections"`
	LastError   string     `json:"last_error,omitempty"` // stays when it is up again
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
}

type certificatesStatus struct {
	Directory string            `json:"directory"`
	Indexed   int               `json:"indexed"`
	Loaded    int               `json:"loaded"`
	Broken    map[string]string `json:"broken"` // by folder, why; "" is the directory
	Expiring  []expiringStatus  `json:"expiring"`
}

// expiringWithin is how near the end of a certificate is that is shown.
const expiringWithin = 30 * 24 * time.Hour

type expiringStatus struct {
	Domain   string    `json:"domain"`
	KeyType  string    `json:"key_type"`
	NotAfter time.Time `json:"not_after"`
}

// show puts what is in force before the eyes of those who ask.
func (i *instance) show() {
	s := &shown{since: time.Now(), config: i.config, certificates: i.certificates}
	for _, l := range i.config.Listeners {
		s.listeners = append(s.listeners, listenerStatus{
			Name: l.Name, Address: i.server.Addr(l.Name).String(), Mode: string(l.Mode), Backend: l.Backend,
			TrustedProxies: trustedOf(l),
		})
	}
	i.shown.Store(s)
}

// status is for admin.Config.
func (i *instance) status() any {
	now := status{Version: build().Version}
	if err := i.ready(); err != nil {
		now.Reason = err.Error()
	} else {
		now.Ready = true
	}
	s := i.shown.Load()
	if s == nil {
		return now
	}
	now.Configuration.InForceSince = s.since
	if refused := i.refused.Load(); refused != nil {
		now.Configuration.Refused = *refused
	}
	now.Listeners = s.listeners
	now.Backends = backendStatuses(i.server.Backends())
	now.Certificates = s.certificates.status()
	return now
}

func backendStatuses(backends []proxy.BackendStatus) []backendStatus {
	var all []backendStatus
	for _, b := range backends {
		now := backendStatus{Name: b.Name, Hostname: b.Hostname, Keywords: b.Keywords}
		for _, a := range b.Addresses {
			one := addressStatus{
				Address: a.Address, Host: a.Host, State: a.State.String(), Since: unlessZero(a.Since),
				Connections: a.Open, LastErrorAt: unlessZero(a.LastErrorAt),
			}
			if a.LastError != nil {
				one.LastError = a.LastError.Error()
			}
			now.Addresses = append(now.Addresses, one)
		}
		all = append(all, now)
	}
	return all
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (c *certificates) status() certificatesStatus {
	state := c.state()
	now := certificatesStatus{Directory: c.from.Directory, Indexed: state.Indexed, Loaded: state.Loaded, Expiring: []expiringStatus{}}
	soon := time.Now().Add(expiringWithin)
	for e := range state.Expiries {
		if e.NotAfter.Before(soon) {
			now.Expiring = append(now.Expiring, expiringStatus{e.Domain, e.KeyType, e.NotAfter})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now.Broken = maps.Clone(c.broken)
	return now
}
