package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/backend"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

// pool is a backend in service. Listeners share it, and it stays through every
// reload that says the same of the backend.
type pool struct {
	*backend.Pool
	settings Backend
	log      *slog.Logger
	metrics  *metrics.Backend // there when the pool is started
}

// newPool makes the pool of a destination, not in service yet.
func newPool(d *destination, events backend.Events) (*backend.Pool, error) {
	return backend.New(backend.Config{
		Name:           d.Name,
		Addresses:      d.Addresses,
		Balance:        d.Balance,
		ConnectTimeout: d.ConnectTimeout,
		Health:         d.HealthCheck,
		Events:         events,
		Check: func(ctx context.Context, conn net.Conn) (any, error) {
			return d.opening.probe(ctx, conn)
		},
	})
}

// usePools gives each destination of the services its pool: the one in service
// where it has the same settings, or a new one, which is not started yet. It
// needs mu.
func (srv *Server) usePools(services []*service) (map[string]*pool, error) {
	pools := make(map[string]*pool)
	var errs []error
	for _, s := range services {
		for _, d := range s.destinations {
			p, err := srv.usePool(d, pools[d.Name])
			if err != nil {
				errs = append(errs, err)
				continue
			}
			pools[d.Name], d.pool = p, p
		}
	}
	return pools, errors.Join(errs...)
}

// usePool returns the pool of a destination. The one of another listener, if
// there is one already, has to say the same. It needs mu.
func (srv *Server) usePool(d *destination, taken *pool) (*pool, error) {
	if taken != nil && !taken.settings.same(d.Backend) {
		return nil, fmt.Errorf("backend %s: the listeners do not say the same of it", d.Name)
	}
	if taken != nil {
		return taken, nil
	}
	if p := srv.pools[d.Name]; p != nil && p.settings.same(d.Backend) {
		return p, nil
	}
	p := &pool{settings: d.Backend, log: srv.log.With("backend", d.Name)}
	var err error
	p.Pool, err = newPool(d, p.events())
	return p, err
}

// replacePools ends the pools that are not among the next, and starts those
// that are new. It needs mu.
func (srv *Server) replacePools(next map[string]*pool) {
	for name, p := range srv.pools {
		if next[name] != p {
			p.Close()
			for _, a := range p.Status() {
				p.metrics.RemoveAddress(a.Address)
			}
		}
	}
	for name, p := range next {
		if srv.pools[name] != p {
			p.metrics = srv.metrics.Backend(name)
			p.Start()
		}
	}
	srv.pools = next
}

// events are what the pool tells of itself to metrics and log.
func (p *pool) events() backend.Events {
	return backend.Events{
		Added: func(address, host string) {
			p.metrics.AddressDown(address) // as long as nothing is known
			if host != "" {
				p.log.Debug("backend's host name has a new address", "host", host, "address", address)
			}
		},
		Removed: func(address, host string) {
			p.metrics.RemoveAddress(address)
			p.log.Debug("backend's host name has lost an address", "host", host, "address", address)
		},
		Up: func(address string, down time.Duration) {
			p.metrics.AddressUp(address)
			if down > 0 {
				p.log.Info("backend address is up again", "address", address, "down", down.Round(time.Millisecond).String())
			}
		},
		Down: func(address string, err error, left int) {
			p.metrics.AddressDown(address)
			p.warn(left, "backend address is down; its clients go to the others until it is back", "address", address, "error", err)
		},
		Checked: func(_ string, err error) {
			if err != nil {
				p.metrics.CheckFailed()
			} else {
				p.metrics.CheckSucceeded()
			}
		},
		LookupFailed: func(host string, err error, left int) {
			p.warn(left, "backend's host name can not be looked up; the addresses that it had stay in use", "host", host, "error", err)
		},
	}
}

// warn says what follows for the clients: something else when no address is left.
func (p *pool) warn(left int, text string, attributes ...any) {
	if left == 0 {
		text = "backend does not answer; its clients get 421 until it does"
	}
	p.log.Warn(text, attributes...)
}

// BackendStatus is what there is to say of a backend in service.
type BackendStatus struct {
	Name      string
	Hostname  string   // what the newest good health check heard, fit to be shown; empty before the first
	Keywords  []string // likewise: what EHLO offers to clients before TLS
	Addresses []AddressStatus
}

// AddressStatus is what there is to say of one of a backend's addresses.
type AddressStatus = backend.Status

// Backends tells of all backends in service, by name.
func (srv *Server) Backends() []BackendStatus {
	srv.mu.Lock()
	pools := srv.pools
	srv.mu.Unlock()
	var all []BackendStatus
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		status := BackendStatus{Name: name, Addresses: pools[name].Status()}
		if found, ok := pools[name].Facts().(*probed); ok {
			status.Hostname = escape.Field(found.Hostname)
			for _, keyword := range found.Keywords {
				status.Keywords = append(status.Keywords, escape.Field(keyword))
			}
		}
		all = append(all, status)
	}
	return all
}

// BackendsUp tells of the backends that have no address that is known to be up.
func (srv *Server) BackendsUp() error {
	var errs []error
	for _, b := range srv.Backends() {
		if err := b.up(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (b BackendStatus) up() error {
	why := "not checked yet"
	for _, a := range b.Addresses {
		if a.State == backend.Up {
			return nil
		}
		if a.LastError != nil {
			why = a.LastError.Error()
		}
	}
	return fmt.Errorf("backend %s: no address is up: %s", b.Name, why)
}
