package config

import (
	"regexp"
	"strings"
)

// routeName is a server name as clients ask for it, or a wildcard for one label.
var routeName = regexp.MustCompile(`^([*_]\.)?[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)

// numeric is what no top-level domain is.
var numeric = regexp.MustCompile(`(^|\.)[0-9]+$`)

func (s *source) checkRoutes(cfg *Config) {
	lines := make(map[string]int) // of the server names
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		s.checkBackendOf(&r.Backend, cfg)
		if s.require(&r.ServerNames, "server_names") && len(r.ServerNames) == 0 {
			s.fault(&r.ServerNames, "the list is empty: want at least one server name")
		}
		for j := range r.ServerNames {
			name := &r.ServerNames[j]
			if len(*name) > 253 || !routeName.MatchString(*name) || numeric.MatchString(*name) {
				s.fault(name, "%q is not a server name: want lower-case letters, digits and hyphens between dots (of other alphabets the form that begins with xn--), and \"*.\" before it for any one label", *name)
				continue
			}
			key := *name
			if rest, ok := strings.CutPrefix(key, "_."); ok { // is the same wildcard
				key = "*." + rest
			}
			if line, taken := lines[key]; taken {
				s.fault(name, "%q has a route already, on line %d", *name, line)
				continue
			}
			lines[key] = s.origins[name].line
		}
	}
}
