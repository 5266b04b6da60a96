package tlsopts

import (
	"fmt"
	"slices"
	"strings"
)

// Describe tells what the options come to, in lines of a name and a value in two
// columns, and then what of them has no effect or is weak, in lines that begin
// with "note:". It is what "check --verbose" prints.
func (o Options) Describe() ([]string, error) {
	p, err := o.resolve()
	if err != nil {
		return nil, err
	}
	var lines []string
	add := func(name, value string) { lines = append(lines, fmt.Sprintf("%-14s%s", name, value)) }

	var versions []string
	for _, v := range p.versions() {
		versions = append(versions, v.String())
	}
	add("profile", string(p.profile))
	add("versions", strings.Join(versions, ", "))
	if p.max == TLS13 {
		add("TLSv1.3", "TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256 (fixed; crypto/tls takes what is fastest)")
	}
	if p.min < TLS13 {
		add("ciphers", strings.Join(suiteNames(p.suites), ", "))
		whose := "the server's"
		if p.clientOrder {
			whose = "the client's"
		}
		add("cipher order", whose)
	}
	add("curves", p.describeGroups())
	if p.protocols == nil {
		add("ALPN", "off")
	} else {
		add("ALPN", strings.Join(p.protocols, ", ")+" (a client that offers only other names is refused)")
	}
	for _, note := range p.notes {
		lines = append(lines, "note: "+note)
	}
	return lines, nil
}

// Notes tells, a sentence each, what of the options has no effect and what is
// weak, for a log at start.
func (o Options) Notes() ([]string, error) {
	p, err := o.resolve()
	if err != nil {
		return nil, err
	}
	return p.notes, nil
}

func (p *policy) describeGroups() string {
	groups := slices.Clone(p.groups)
	if p.max < TLS13 {
		groups = slices.DeleteFunc(groups, isHybrid)
	}
	names := strings.Join(groupNames(groups), ", ")
	switch {
	case p.groupOrder:
		return names + " (in this order)"
	case p.max < TLS13:
		return names + " (in the client's order)"
	}
	return names + " (crypto/tls takes hybrid ones first)"
}
