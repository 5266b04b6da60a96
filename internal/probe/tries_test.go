package probe_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/probe"
)

func TestTries_Versions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		from, to uint16
		want     string
		findings []string
	}{
		{tls.VersionTLS12, tls.VersionTLS13, "TLSv1.2 TLSv1.3", nil},
		{tls.VersionTLS13, tls.VersionTLS13, "TLSv1.3", nil},
		{tls.VersionTLS10, tls.VersionTLS12, "TLSv1 TLSv1.1 TLSv1.2", []string{"warn version_deprecated"}},
	} {
		for _, mode := range []probe.Mode{probe.Implicit, probe.STARTTLS} {
			c := config(t)
			c.MinVersion, c.MaxVersion = test.from, test.to
			r := run(t, listen(t, mta{implicit: mode == probe.Implicit, config: c}.serve), probe.Options{Mode: mode, Versions: true})
			requireFindings(t, r, test.findings...)
			var accepted []string
			for _, v := range r.Sessions[0].Versions {
				if v.Accepted {
					accepted = append(accepted, v.Version)
				} else if v.Text != "alert protocol_version" {
					t.Errorf("%s is refused with %q", v.Version, v.Text)
				}
			}
			if got := strings.Join(accepted, " "); got != test.want || len(r.Sessions[0].Versions) != 4 {
				t.Errorf("%s: accepted %s, want %s", mode, got, test.want)
			}
		}
	}
}

func TestTries_SNI(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	other := chainOf(issue(t, server("default.example"), tr.intermediate), tr.intermediate)
	ours := chainOf(tr.leaf, tr.intermediate)
	c := &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		switch hello.ServerName {
		case "mail.example":
			return &ours, nil
		case "":
			return &other, nil
		}
		return nil, nil
	}}
	r := run(t, listen(t, mta{config: c}.serve), probe.Options{SNI: true})
	requireFindings(t, r)
	var got []string
	for _, n := range r.Sessions[0].SNI {
		got = append(got, fmt.Sprintf("%q %v %v %v %s", n.ServerName, n.Accepted, n.Same, n.Names, n.Text))
	}
	want := []string{`"" true false [default.example] CN=default.example`, `"unknown.smtp-tlsproxy-probe.invalid" false false [] alert unrecognized_name`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
	// One certificate for all.
	r = run(t, listen(t, mta{config: config(t)}.serve), probe.Options{SNI: true})
	for _, n := range r.Sessions[0].SNI {
		if !n.Same || !n.Accepted {
			t.Errorf("got %+v", n)
		}
	}
}

// TestTries_Injection: the server that executes what came before TLS is found,
// and only that one.
func TestTries_Injection(t *testing.T) {
	t.Parallel()
	c := config(t)
	for _, test := range []struct {
		name     string
		server   mta
		mode     probe.Mode
		accepted bool
		text     string
	}{
		{"kept", mta{config: c, keepsInjection: true}, probe.STARTTLS, true, "executed: the first reply under TLS was 250 fine"},
		{"dropped", mta{config: c}, probe.STARTTLS, false, "dropped: the first reply under TLS was that to QUIT"},
		{"implicit", mta{config: c, implicit: true}, probe.Implicit, false, "not tried: with implicit TLS nothing comes before TLS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, listen(t, test.server.serve), probe.Options{Mode: test.mode, Injection: true})
			got := r.Sessions[0].Injection
			if got == nil || got.Accepted != test.accepted || got.Text != test.text {
				t.Errorf("got %+v", got)
			}
			if test.accepted {
				requireFindings(t, r, "fail injection")
			} else {
				requireFindings(t, r)
			}
		})
	}
}
