package proxy

import (
	"fmt"
	"strings"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// Route leads clients to a backend by the server name that they ask for, under
// implicit TLS and after STARTTLS alike.
type Route struct {
	// ServerNames are lower-case A-labels. "*.example.com" and "_.example.com"
	// stand for one label, and give way to a name itself. No name may be in two
	// routes of a listener.
	ServerNames []string
	Backend     Backend
}

// routes are the ways of a service by server name; a wildcard is without its
// first label.
type routes struct {
	exact, wildcard map[string]*destination
}

// route makes the destinations of a service and the ways to them.
func (s *service) route() error {
	if err := s.addDestination(s.Backend); err != nil {
		return err
	}
	s.routes = routes{exact: make(map[string]*destination), wildcard: make(map[string]*destination)}
	for _, r := range s.Routes {
		if err := s.addDestination(r.Backend); err != nil {
			return err
		}
		to := s.destination(r.Backend.Name)
		for _, name := range r.ServerNames {
			if err := s.routes.add(name, to); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *service) addDestination(b Backend) error {
	if d := s.destination(b.Name); d != nil {
		if !d.same(b) {
			return fmt.Errorf("backend %s: the routes do not say the same of it", b.Name)
		}
		return nil
	}
	d, err := newDestination(b, s.Hostname)
	if err != nil {
		return err
	}
	s.destinations = append(s.destinations, d)
	return nil
}

func (s *service) destination(name string) *destination {
	for _, d := range s.destinations {
		if d.Name == name {
			return d
		}
	}
	return nil
}

func (r *routes) add(name string, to *destination) error {
	names, key := r.exact, name
	if rest, ok := wildcardOf(name); ok {
		names, key = r.wildcard, rest
	}
	if valid, ok := sni.ServerName(key); !ok || valid != key {
		return fmt.Errorf("route to %s: %q is not a server name in lower-case A-labels, nor \"*.\" before one", to.Name, name)
	}
	if other := names[key]; other != nil {
		return fmt.Errorf("route to %s: %q leads to %s already", to.Name, name, other.Name)
	}
	names[key] = to
	return nil
}

// wildcardOf is what stands behind the wildcard of a name.
func wildcardOf(name string) (rest string, ok bool) {
	for _, prefix := range []string{"*.", "_."} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return rest, true
		}
	}
	return "", false
}

// destinationOf is where a client goes that asked for a server name, which is as
// the client sent it.
func (s *service) destinationOf(serverName string) *destination {
	if len(s.Routes) == 0 {
		return s.destinations[0]
	}
	name, _ := sni.ServerName(serverName)
	if to := s.routes.exact[name]; to != nil {
		return to
	}
	if _, rest, ok := strings.Cut(name, "."); ok {
		if to := s.routes.wildcard[rest]; to != nil {
			return to
		}
	}
	return s.destinations[0]
}
