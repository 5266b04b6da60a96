package sni

// Kind tells how a server name came to its folder.
type Kind int

// The kinds of match. The order of precedence is Exact, Wildcard, Default.
const (
	None     Kind = iota // no folder, and no default either
	Default              // the default folder, for want of a better one
	Wildcard             // "*.example.com" for "a.example.com": one label, as in RFC 6125 section 6.4.3
	Exact                // the folder is called as the server name is
)

// String returns "none", "default", "wildcard" or "exact".
func (k Kind) String() string { return [...]string{"none", "default", "wildcard", "exact"}[k] }

// Name tells what the client sent as its server name.
type Name int

// The states of a server name.
const (
	NameAbsent   Name = iota // no server_name extension
	NameUnusable             // not a host name (see ServerName): an IP address, for one
	NameUnknown              // a host name that no folder is for
	NameKnown                // a host name that a folder is for
)

// String returns "absent", "unusable", "unknown" or "known".
func (n Name) String() string { return [...]string{"absent", "unusable", "unknown", "known"}[n] }

// Match is the folder found for a server name. The zero value matches nothing.
type Match struct {
	Folder string // name of the folder, from the directory and never from the client; "" for None
	Kind   Kind
	Name   Name

	index      *index
	number     int    // of the folder in index
	serverName string // in lower case; "" if it is not a host name
}

// Unrecognized reports whether the client sent a server name, usable or not,
// that no folder is for: what a server may answer with the alert
// unrecognized_name (RFC 6066 section 3). A client that sent none is not meant;
// it gets the default. On port 25 everybody should (RFC 8461 section 7.1).
func (m Match) Unrecognized() bool { return m.Name == NameUnusable || m.Name == NameUnknown }

// Lookup finds the folder for a server name as the client sent it, or "" for
// none: exact, then wildcard, then the default. It reads the index only, never
// the disk, and takes no lock. The match stays good for Certificate when its
// folder is renewed or removed meanwhile.
func (s *Store) Lookup(serverName string) Match {
	m := Match{index: s.index.Load(), number: -1}
	if serverName == "" {
		return m.to(m.index.fallback, Default)
	}
	var ok bool
	if m.serverName, ok = ServerName(serverName); !ok {
		m.Name = NameUnusable
		return m.to(m.index.fallback, Default)
	}
	m.Name = NameKnown
	if i := m.index.exact(m.serverName); i >= 0 {
		return m.to(i, Exact)
	}
	if i := m.index.wildcardFor(m.serverName); i >= 0 {
		return m.to(i, Wildcard)
	}
	m.Name = NameUnknown
	return m.to(m.index.fallback, Default)
}

// Fallback returns the match to serve when the folder of m cannot be loaded:
// exact falls to wildcard, that to the default, and that to None.
func (m Match) Fallback() Match {
	if m.Kind == Exact {
		if i := m.index.wildcardFor(m.serverName); i >= 0 {
			return m.to(i, Wildcard)
		}
	}
	if m.Kind > Default && m.index.fallback != m.number {
		return m.to(m.index.fallback, Default)
	}
	return m.to(-1, None)
}

func (m Match) to(i int, kind Kind) Match {
	if i < 0 {
		m.number, m.Folder, m.Kind = -1, "", None
		return m
	}
	m.number, m.Folder, m.Kind = i, m.index.folder(i), kind
	return m
}
