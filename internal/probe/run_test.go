package probe_test

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/probe"
)

// stepsOf are the names of the steps, those that went wrong with their outcome.
func stepsOf(s probe.Session) string {
	var names []string
	for _, step := range s.Steps {
		name := step.Name
		if step.Outcome != probe.OK {
			name += ":" + string(step.Outcome)
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func TestRun_GoodServer(t *testing.T) {
	t.Parallel()
	for mode, steps := range map[probe.Mode]string{
		probe.Implicit: "connect handshake certificate greeting EHLO QUIT",
		probe.STARTTLS: "connect greeting EHLO STARTTLS handshake certificate EHLO QUIT",
	} {
		c := config(t)
		c.SessionTicketsDisabled = false
		r := run(t, listen(t, mta{implicit: mode == probe.Implicit, config: c}.serve), probe.Options{Mode: mode})
		requireFindings(t, r)
		s := r.Sessions[0]
		if r.Verdict != probe.Accepted || stepsOf(s) != steps {
			t.Errorf("%s: verdict %q, steps %q", mode, r.Verdict, stepsOf(s))
		}
		if s.TLS.Version != "TLSv1.3" || s.TLS.Group != "X25519MLKEM768" || !s.TLS.PostQuantum || !s.TLS.SessionTicket || s.TLS.ServerNameSent != "mail.example" || s.TLS.ALPN != "" {
			t.Errorf("%s: TLS facts %+v", mode, s.TLS)
		}
		if !s.Verified.Verified || strings.Join(s.Verified.Path, " ") != "CN=mail.example CN=Intermediate CN=Root" || len(s.Chain) != 2 || s.Chain[0].DaysLeft != 60 {
			t.Errorf("%s: verification %+v, chain %+v", mode, s.Verified, s.Chain)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	}
}

// TestRun_Chooses: mode and port where they are not given.
func TestRun_Chooses(t *testing.T) {
	t.Parallel()
	nobody := func(context.Context, string) ([]netip.Addr, error) { return nil, nil }
	for _, test := range []struct {
		port string
		mode probe.Mode
		want probe.Target
	}{
		{"", "", probe.Target{Port: "465", PortFrom: "default", Mode: probe.Implicit, ModeFrom: "port"}},
		{"", probe.STARTTLS, probe.Target{Port: "587", PortFrom: "default", Mode: probe.STARTTLS, ModeFrom: "flag"}},
		{"4465", "", probe.Target{Port: "4465", PortFrom: "given", Mode: probe.Implicit, ModeFrom: "port"}},
		{"465", probe.STARTTLS, probe.Target{Port: "465", PortFrom: "given", Mode: probe.STARTTLS, ModeFrom: "flag"}},
		{"25", "", probe.Target{Port: "25", PortFrom: "given", Mode: probe.STARTTLS, ModeFrom: "port"}},
	} {
		test.want.Host, test.want.ServerName = "Mail.Example.", "mail.example"
		r := probe.Run(t.Context(), probe.Options{Host: "Mail.Example.", Port: test.port, Mode: test.mode, LookUp: nobody})
		if r.Target != test.want {
			t.Errorf("chose %+v, want %+v", r.Target, test.want)
		}
		requireFindings(t, r, "fail look_up")
	}
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"mail.example": "mail.example ", "mail.example:25": "mail.example 25", "192.0.2.1:465": "192.0.2.1 465", "2001:db8::1": "2001:db8::1 ",
		"[2001:db8::1]": "2001:db8::1 ", "[2001:db8::1]:25": "2001:db8::1 25", "fe80::1%eth0": "fe80::1%eth0 ",
	} {
		host, port, err := probe.ParseTarget(text)
		if got := host + " " + port; err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"": "host is missing", ":25": "host is missing", "a:b:c": "is not HOST:PORT", "[a]": "no IP address in brackets", "a:0": "not a port", "a:70000": "not a port",
		"bücher.example": "A-label", "a b": "is not a host name", "https://a": "is not a port", strings.Repeat("a", 254): "at most 253",
	} {
		if _, _, err := probe.ParseTarget(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// TestRun_Addresses: clients go on to the next address where one can not be
// reached; with All each is probed.
func TestRun_Addresses(t *testing.T) {
	t.Parallel()
	address := listen(t, mta{config: config(t)}.serve) // on 127.0.0.1
	_, port, _ := net.SplitHostPort(address)
	lookUp := func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.77"), netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("127.0.0.78")}, nil
	}
	o := probe.Options{Host: "mail.example", Port: port, Mode: probe.STARTTLS, LookUp: lookUp, Roots: newTree(t).pool(), Now: clock}
	r := probe.Run(t.Context(), o)
	requireFindings(t, r, "warn connect")
	if len(r.Sessions) != 2 || r.LookUp.Text != "127.0.0.77, 127.0.0.1, 127.0.0.78" || r.Verdict != probe.Warned {
		t.Errorf("%d sessions, look-up %+v, verdict %s", len(r.Sessions), r.LookUp, r.Verdict)
	}
	o.All = true
	r = probe.Run(t.Context(), o)
	if len(r.Sessions) != 3 || len(r.Findings) != 1 || len(r.Findings[0].Addresses) != 2 {
		t.Errorf("with All: %d sessions, findings %+v", len(r.Sessions), r.Findings)
	}
}

func TestRun_NobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := run(t, l.Addr().String(), probe.Options{})
	requireFindings(t, r, "fail connect")
	if text := r.Findings[0].Text; !strings.Contains(text, "refused") {
		t.Errorf("text %q", text)
	}
}

// TestRun_Interrupted: the end of the context ends a step that waits.
func TestRun_Interrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	address := listen(t, func(conn net.Conn) {
		cancel() // the client waits for the greeting, or will
		conn.Read(make([]byte, 1))
	})
	host, port, _ := net.SplitHostPort(address)
	r := probe.Run(ctx, probe.Options{Host: host, Port: port, Mode: probe.STARTTLS, Timeout: time.Hour})
	requireFindings(t, r, "fail interrupted")
	if r.Verdict != probe.Refused {
		t.Errorf("verdict %s", r.Verdict)
	}
}
