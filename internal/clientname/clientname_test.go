package clientname_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/clientname"
)

// zone answers from what it has: names by address, addresses by name. A word in
// place of either is an error.
type zone map[string]string

var failures = map[string]error{
	"none":    &net.DNSError{Err: "no such host", IsNotFound: true},
	"timeout": &net.DNSError{Err: "i/o timeout", IsTimeout: true, IsTemporary: true},
	"other":   errors.New("what"),
}

func (z zone) LookupAddr(_ context.Context, address string) ([]string, error) {
	return strings.Fields(z[address]), failures[z[address]]
}

func (z zone) LookupNetIP(_ context.Context, network, host string) (found []netip.Addr, err error) {
	if network != "ip" {
		return nil, errors.New("network " + network)
	}
	if err := failures[z[host]]; err != nil {
		return nil, err
	}
	for _, address := range strings.Fields(z[host]) {
		found = append(found, netip.MustParseAddr(address))
	}
	return found, nil
}

func TestLookup(t *testing.T) {
	type names = clientname.Names
	const address = "192.0.2.1"
	for name, c := range map[string]struct {
		zone zone
		want names
	}{
		"verified":              {zone{address: "mail.example.net.", "mail.example.net.": address}, names{"mail.example.net", "mail.example.net", false}},
		"of the hosts file":     {zone{address: "local", "local": address}, names{"local", "local", false}},
		"among others":          {zone{address: "mail.example.net.", "mail.example.net.": "192.0.2.7 ::ffff:192.0.2.1"}, names{"mail.example.net", "mail.example.net", false}},
		"the second name":       {zone{address: "a.example. b.example.", "a.example.": "192.0.2.7", "b.example.": address}, names{"b.example", "a.example", false}},
		"leads elsewhere":       {zone{address: "localhost.", "localhost.": "127.0.0.1"}, names{"", "localhost", false}},
		"leads nowhere":         {zone{address: "a.example.", "a.example.": "none"}, names{"", "a.example", false}},
		"leads nowhere for now": {zone{address: "a.example.", "a.example.": "timeout"}, names{"", "a.example", true}},
		"no name":               {zone{address: "none"}, names{}},
		"no name for now":       {zone{address: "timeout"}, names{Temporary: true}},
		"another failure":       {zone{address: "other"}, names{Temporary: true}},
		"no name at all":        {zone{address: "a;250.example. -a.example. a..example. [::1] " + strings.Repeat("a", 64) + ".example."}, names{}},
		"the fifth name":        {zone{address: "a. b. c. d. e.", "e.": address}, names{"", "a", false}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, form := range []string{address, "::ffff:" + address} {
				if got := clientname.Lookup(t.Context(), c.zone, netip.MustParseAddr(form)); got != c.want {
					t.Errorf("%s: %+v, want %+v", form, got, c.want)
				}
			}
		})
	}
}

func TestLookup_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := clientname.Lookup(ctx, zone{"192.0.2.1": "none"}, netip.MustParseAddr("192.0.2.1")); !got.Temporary {
		t.Errorf("a question that was broken off counts as answered: %+v", got)
	}
}
