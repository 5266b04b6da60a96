package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// pair is a listener of each mode with TLS options of its own. One process
// has as many as a test wants, so that a table needs no process a row.
type pair struct {
	name string
	tls  string // keys of their tls blocks, in flow style

	implicit, starttls string // addresses; free ones on 127.0.0.1
}

// completePairs fills in the addresses.
func completePairs(t testing.TB, pairs []pair) []pair {
	t.Helper()
	pairs = slices.Clone(pairs)
	for i := range pairs {
		for _, address := range []*string{&pairs[i].implicit, &pairs[i].starttls} {
			if *address == "" {
				*address = loopback(t)
			}
		}
	}
	return pairs
}

// yamlOfPairs are their items of the listeners' list.
func yamlOfPairs(pairs []pair) string {
	var text strings.Builder
	for _, p := range pairs {
		fmt.Fprintf(&text, "  - {name: %s-465, address: %q, mode: implicit, backend: mta, tls: {%s}}\n", p.name, p.implicit, p.tls)
		fmt.Fprintf(&text, "  - {name: %s-587, address: %q, mode: starttls, backend: mta, tls: {%s}}\n", p.name, p.starttls, p.tls)
	}
	return text.String()
}

// portsOf are the two listeners of a pair.
func (p *proxy) portsOf(t testing.TB, name string) []port {
	t.Helper()
	for _, pair := range p.pairs {
		if pair.name == name {
			ports := p.ports()
			ports[0].listener, ports[0].address = name+"-465", pair.implicit
			ports[1].listener, ports[1].address = name+"-587", pair.starttls
			return ports
		}
	}
	t.Fatalf("the proxy has no pair of listeners named %q", name)
	return nil
}
