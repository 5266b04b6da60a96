package proxy_test

import (
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// backendNamed is the backend of listenerTo under another name.
func backendNamed(t *testing.T, name string, b *fakeBackend) proxy.Backend {
	t.Helper()
	settings := listenerTo(t, proxy.ModeImplicitTLS, b.address).Backend
	settings.Name = name
	return settings
}

// TestRoutes: clients come to the backend of their server name, as certificates
// are chosen: the name itself before its wildcard, a wildcard for one label.
func TestRoutes(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		greets := func(name string) *fakeBackend {
			return newBackend(t, func(p *peer) {
				p.send("220 " + name)
				for p.command() {
				}
			})
		}
		others, exact, wild := greets("others"), greets("exact"), greets("wild")
		l := listenerTo(t, mode, others.address)
		l.Backend.Name = "others"
		l.Routes = []proxy.Route{
			{ServerNames: []string{"*.wild.example", "*.customer.example"}, Backend: backendNamed(t, "wild", wild)},
			{ServerNames: []string{"a.example", "a.wild.example"}, Backend: backendNamed(t, "exact", exact)},
			{ServerNames: []string{"_.under.example"}, Backend: backendNamed(t, "wild", wild)},
		}
		srv := serve(t, l)
		before := map[string]int{}
		for _, c := range []struct{ serverName, backend string }{
			{"a.example", "exact"},
			{"A.EXAMPLE", "exact"},
			{"a.wild.example", "exact"},
			{"b.wild.example", "wild"},
			{"b.under.example", "wild"},
			{"x.customer.example", "wild"},
			{"x.y.customer.example", "others"}, // one label
			{"customer.example", "others"},
			{"mail.example", "others"},
			{"unknown.example", "others"},
			{"", "others"},
		} {
			cl := srv.client(mode.String())
			config := trusting(c.serverName)
			config.InsecureSkipVerify = true // routes do not depend on certificates
			if mode == proxy.ModeSTARTTLS {
				cl.startTLS(config)
				cl.do("EHLO client.example", "250-")
			} else {
				cl.handshake(config)
				cl.expect("220 " + c.backend)
			}
			cl.do("QUIT", "221 ")
			cl.end()
			if line := srv.session("ok"); line["backend"] != c.backend {
				t.Errorf("%q came to %v, want %s", c.serverName, line["backend"], c.backend)
			}
			before[c.backend]++
			srv.counts(float64(before[c.backend]), "sessions_total", "backend", c.backend, "outcome", "ok")
		}
		for name, b := range map[string]*fakeBackend{"others": others, "exact": exact, "wild": wild} {
			if got := b.connections(); got != before[name] {
				t.Errorf("%s got %d connections, want %d", name, got, before[name])
			}
		}
	})
}

// TestRoutes_Reload: sessions keep their way, and new ones go the new way.
func TestRoutes_Reload(t *testing.T) {
	first, second := newBackend(t, mailServer), newBackend(t, mailServer)
	l := listenerTo(t, proxy.ModeImplicitTLS, first.address)
	l.Routes = []proxy.Route{{ServerNames: []string{"a.example"}, Backend: backendNamed(t, "second", second)}}
	srv := serve(t, l)
	open := srv.tlsClient(proxy.ModeImplicitTLS)
	open.expect("220 ")
	l.Routes = nil
	must(t, srv.Reload([]proxy.Listener{l}))
	c := srv.tlsClient(proxy.ModeImplicitTLS)
	c.expect("220 ")
	c.do("QUIT", "221 ")
	if line := srv.session("ok"); line["backend"] != "mta" {
		t.Errorf("behind the reload: %v", line)
	}
	open.do("NOOP", "250 ")
	open.do("QUIT", "221 ")
	if line := srv.session("ok"); line["backend"] != "second" {
		t.Errorf("before the reload: %v", line)
	}
	if got := srv.metric("sessions_total", "backend", "second"); got != -1 {
		t.Errorf("the backend that is gone has %v sessions", got)
	}
}

func TestRoutes_Faults(t *testing.T) {
	b := newBackend(t, mailServer)
	other := backendNamed(t, "mta", b)
	other.Addresses = []string{"127.0.0.1:1"}
	second := backendNamed(t, "second", b)
	for want, routes := range map[string][]proxy.Route{
		`"A.example" is not a server name`:                      {{[]string{"A.example"}, second}},
		`"*.*.example" is not a server name`:                    {{[]string{"*.*.example"}, second}},
		`"192.0.2.1" is not a server name`:                      {{[]string{"192.0.2.1"}, second}},
		`"" is not a server name`:                               {{[]string{""}, second}},
		`"a.example" leads to second already`:                   {{[]string{"a.example"}, second}, {[]string{"a.example"}, second}},
		`"_.a.example" leads to second already`:                 {{[]string{"*.a.example", "_.a.example"}, second}},
		"backend mta: the routes do not say the same of it":     {{[]string{"a.example"}, other}},
		`backend bad: "" is no way to tell who the client is: `: {{[]string{"a.example"}, proxy.Backend{Name: "bad"}}},
	} {
		l := listenerTo(t, proxy.ModeImplicitTLS, b.address)
		l.Routes = routes
		srv, err := proxy.Listen(proxy.Config{Listeners: []proxy.Listener{l}})
		if err == nil {
			srv.Close()
			t.Errorf("no error, want %s", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
