package main

import (
	"maps"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
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
	now.Certificates = s.certificates.status()
	return now
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
