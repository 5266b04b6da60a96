package proxy_test

import (
	"net/netip"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// TestListenRefuses goes through what would fail, or do harm, once clients
// come. Nothing is bound then.
func TestListenRefuses(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*proxy.Listener)
		want  string
	}{
		{"mode", func(l *proxy.Listener) { l.Mode = 0 }, "listener implicit: no mode"},
		{"STARTTLS", func(l *proxy.Listener) { l.STARTTLS = starttls.Optional }, "optional STARTTLS needs the mode starttls"},
		{"TLS", func(l *proxy.Listener) { l.TLS.Ciphers = "X" }, `listener implicit: ciphers: "X" is not the name`},
		{"client authentication", func(l *proxy.Listener) { l.ClientAuth.Mode = tlsopts.ClientAuthRequire }, "has nothing to verify by"},
		{"certificates", func(l *proxy.Listener) { l.Certificates = nil }, "no certificates"},
		{"no host name", func(l *proxy.Listener) { l.Hostname = "" }, `"" is no host name`},
		{"host name", func(l *proxy.Listener) { l.Hostname = "a\r\nb" }, `"a\r\nb" is no host name`},
		{"client info", func(l *proxy.Listener) { l.Backend.ClientInfo = "" }, `backend mta: "" is no way to tell who the client is: want one of`},
		{"backend address", func(l *proxy.Listener) { l.Backend.Addresses = nil }, "backend mta: no address"},
		{"header size", func(l *proxy.Listener) { l.Backend.MaxHeaderBytes = 60 }, "backend mta: a PROXY header of 60 bytes can not tell of TLS: want at least 128"},
		{"TLV", func(l *proxy.Listener) { l.Backend.ProxyTLVs = []string{"tls"} }, `"tls" is no TLV`},
		{"trusted by all", func(l *proxy.Listener) { l.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("::/0")} }, "can not be trusted from ::/0"},
		{"trusted by none", func(l *proxy.Listener) { l.TrustedProxies = make([]netip.Prefix, 1) }, "can not be trusted from invalid"},
		{"trusted IPv4 as IPv6", func(l *proxy.Listener) {
			l.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}
		}, "can not be trusted from ::ffff:10.0.0.0/104"},
		{"address", func(l *proxy.Listener) { l.Address = "127.0.0.1" }, "listener implicit: address 127.0.0.1: "},
		{"foreign address", func(l *proxy.Listener) { l.Address = "192.0.2.1:0" }, "no interface of this machine has that address"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := listenerTo(t, proxy.ModeImplicitTLS, "127.0.0.1:1")
			test.spoil(&l)
			srv, err := proxy.Listen(proxy.Config{Listeners: []proxy.Listener{l}})
			if err == nil {
				srv.Close()
				t.Fatal("the listener was accepted")
			}
			contains(t, err.Error(), test.want)
		})
	}
	if _, err := proxy.Listen(proxy.Config{}); err == nil {
		t.Error("a configuration without listeners was accepted")
	}
}

func TestModeString(t *testing.T) {
	for mode, want := range map[proxy.Mode]string{
		proxy.ModeImplicitTLS: "implicit", proxy.ModeSTARTTLS: "starttls", 7: "Mode(7)",
	} {
		if got := mode.String(); got != want {
			t.Errorf("%d is %s, want %s", mode, got, want)
		}
	}
}
