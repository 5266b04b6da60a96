package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/limit"
)

// ErrServerClosed is returned by Serve and Reload after Shutdown or Close.
var ErrServerClosed = errors.New("proxy: server closed")

// Server serves the listeners of a Config. Its methods may be called from any
// goroutine.
type Server struct {
	log     *slog.Logger
	metrics *Metrics
	limits  *limit.Limiter
	full    seldom
	foreign seldom // peers that no listener trusts

	failures failures // of handshakes

	draining context.Context // ends when Shutdown begins
	drain    context.CancelFunc
	killed   context.Context // ends when sessions are to be cut
	kill     context.CancelFunc

	accepting sync.WaitGroup // accept loops
	running   sync.WaitGroup // accept loops and sessions

	mu      sync.Mutex
	sockets map[string]*socket
	pools   map[string]*pool // by the backend's name
	serving bool
	closed  bool
}

// Listen checks the configuration and binds every address, or none. Clients
// can connect from then on; they are served once Serve runs.
func Listen(config Config) (*Server, error) {
	srv := &Server{log: config.Logger, metrics: config.Metrics, sockets: make(map[string]*socket)}
	if srv.log == nil {
		srv.log = slog.New(slog.DiscardHandler)
	}
	if srv.metrics == nil {
		srv.metrics = NewMetrics(prometheus.NewRegistry())
	}
	srv.limits = limit.New(limit.Limits{})
	srv.SetLimits(config.Limits)
	srv.draining, srv.drain = context.WithCancel(context.Background())
	srv.killed, srv.kill = context.WithCancel(context.Background())
	if err := srv.Reload(config.Listeners); err != nil {
		return nil, err
	}
	return srv, nil
}

// Serve accepts clients until Shutdown or Close is called, and then returns
// ErrServerClosed without waiting for the sessions.
func (srv *Server) Serve() error {
	srv.mu.Lock()
	if srv.closed {
		srv.mu.Unlock()
		return ErrServerClosed
	}
	if !srv.serving {
		srv.serving = true
		for _, k := range srv.sockets {
			srv.serve(k)
		}
	}
	srv.mu.Unlock()
	<-srv.draining.Done()
	return ErrServerClosed
}

// serve needs mu.
func (srv *Server) serve(k *socket) {
	for _, l := range k.listeners {
		srv.accepting.Add(1)
		srv.running.Add(1)
		go srv.accept(k, l)
	}
}

// Reload puts other listeners in place of those served now, all or none. A
// listener whose address stays keeps its socket, and so loses no client;
// sessions in progress keep the configuration with which they began.
func (srv *Server) Reload(listeners []Listener) error {
	services, err := newServices(listeners)
	if err != nil {
		return err
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.closed {
		return ErrServerClosed
	}
	next := make(map[string]*socket, len(services))
	bound := make(map[string]bool, len(services))
	var opened []*socket
	var errs []error
	pools, err := srv.usePools(services)
	if err != nil {
		return err
	}
	for _, s := range services {
		key := s.key()
		k := srv.sockets[key]
		if k == nil {
			if k, err = bind(s); err != nil {
				errs = append(errs, err)
				continue
			}
			opened = append(opened, k)
		}
		if err := claim(bound, s, k); err != nil {
			errs = append(errs, err)
			continue
		}
		next[key] = k
	}
	if err := errors.Join(errs...); err != nil {
		for _, k := range opened {
			k.Close()
		}
		return err
	}
	srv.replace(next, services, opened, pools)
	return nil
}

// claim notes the addresses of a socket, none of which may have an owner:
// SO_REUSEPORT would share the clients out between the two.
func claim(bound map[string]bool, s *service, k *socket) error {
	for _, l := range k.listeners {
		if bound[l.Addr().String()] {
			return fmt.Errorf("listener %s: address %s has a listener already", s.Name, s.Address)
		}
		bound[l.Addr().String()] = true
	}
	return nil
}

// replace makes the next sockets and pools the served ones. It needs mu.
func (srv *Server) replace(next map[string]*socket, services []*service, opened []*socket, pools map[string]*pool) {
	gone := srv.names()
	for _, s := range services {
		s.count(srv.metrics)
		next[s.key()].service.Store(s)
	}
	for key, k := range srv.sockets {
		if next[key] == nil {
			k.Close()
		}
	}
	srv.sockets = next
	srv.replacePools(pools)
	if srv.serving {
		for _, k := range opened {
			srv.serve(k)
		}
	}
	now := srv.names()
	for name := range gone.listeners {
		if !now.listeners[name] {
			srv.metrics.RemoveListener(name)
		}
	}
	for name := range gone.backends {
		if !now.backends[name] {
			srv.metrics.RemoveBackend(name)
		}
	}
}

// names are the label values that the metrics have.
type names struct{ listeners, backends map[string]bool }

// names needs mu.
func (srv *Server) names() names {
	n := names{listeners: make(map[string]bool), backends: make(map[string]bool)}
	for _, k := range srv.sockets {
		s := k.service.Load()
		n.listeners[s.Name] = true
		for _, d := range s.destinations {
			n.backends[d.Name] = true
		}
	}
	return n
}

// Addr is the address that the listener of that name is bound to, nil when
// there is none.
func (srv *Server) Addr(name string) net.Addr {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	for _, k := range srv.sockets {
		if k.service.Load().Name == name {
			return k.Addr()
		}
	}
	return nil
}

// Connections is how many clients are connected. It waits for the locks that
// reloads and new clients wait for, so who gets an answer knows that those are
// not stuck.
func (srv *Server) Connections() int {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.limits.Connections()
}

// Shutdown stops accepting, without losing a client that has connected, ends
// the sessions between two transactions with 421, and waits for the others
// until ctx ends; then it cuts them and returns the context's error.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.letGo(ctx)
	srv.stopAccepting()
	done := make(chan struct{})
	go func() {
		srv.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		srv.kill()
		<-done
		return ctx.Err()
	}
}

// Close stops accepting and cuts every session.
func (srv *Server) Close() error {
	srv.stopAccepting()
	srv.kill()
	srv.running.Wait()
	return nil
}

func (srv *Server) stopAccepting() {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.closed = true
	for _, k := range srv.sockets {
		k.Close()
	}
	for _, p := range srv.pools {
		p.Close() // a backend may well go down together with us
	}
	srv.drain()
}
