package proxy_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

const (
	balancer = "192.0.2.99:50000" // what the pipes of bubbles come from
	headerV1 = "PROXY TCP4 198.51.100.7 203.0.113.1 4711 587\r\n"
	local    = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	unknown  = "PROXY UNKNOWN\r\n"
	itself   = "PROXY TCP4 192.0.2.99 192.0.2.1 50000 465\r\n"
)

// headerV2 tells of the same client, and has a TLV of its own.
func headerV2(t testing.TB) string {
	t.Helper()
	client := net.TCPAddrFromAddrPort(netip.MustParseAddrPort("198.51.100.7:4711"))
	header := proxyproto.HeaderProxyFromAddrs(2, client, net.TCPAddrFromAddrPort(netip.MustParseAddrPort("203.0.113.1:587")))
	must(t, header.SetTLVs([]proxyproto.TLV{{Type: 0xE7, Value: []byte("inbound")}, {Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("forged.example")}}))
	raw, err := header.Format()
	must(t, err)
	return string(raw)
}

// behindBalancer makes a listener wait for PROXY headers.
func behindBalancer(l *proxy.Listener) {
	l.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")}
}

// glued sends a header together with the first bytes of the client.
type glued struct {
	net.Conn
	header string
}

func (g *glued) Write(p []byte) (int, error) {
	if g.header == "" {
		return g.Conn.Write(p)
	}
	n, err := g.Conn.Write(append([]byte(g.header), p...))
	n, g.header = max(0, n-len(g.header)), ""
	return n, err
}

// TestR54_ClientOfTheHeader: the header of either version, in whatever pieces
// and with whatever behind it, tells who the client is to the backend and to
// the log. Nothing else of it goes on, and a second header is no header.
func TestR54_ClientOfTheHeader(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		for name, header := range map[string]string{"v1": headerV1, "v2": headerV2(t)} {
			for way, send := range map[string]func(c *client){
				"at once": func(c *client) { c.raw(header) },
				"byte by byte": func(c *client) {
					for _, b := range []byte(header) {
						c.raw(string([]byte{b}))
						time.Sleep(20 * time.Millisecond) // in the bubble
					}
				},
				"with the first bytes of the client": func(c *client) {
					if mode == proxy.ModeSTARTTLS {
						c.raw(header + "NOOP\r\n")
						c.expect("220 ")
						c.expect("250 ")
						c.do("EHLO client.example", "250-")
						c.do("STARTTLS", "220 ")
					}
					c.conn = &glued{c.conn, map[proxy.Mode]string{proxy.ModeImplicitTLS: header}[mode]}
					c.handshake(trusting("a.example"))
				},
				"and a second one": func(c *client) {
					if mode != proxy.ModeSTARTTLS {
						c.raw(header)
						return
					}
					c.raw(header + "PROXY TCP4 192.0.2.66 192.0.2.1 1 2\r\n")
					c.expect("220 ")
					c.expect("500 ")
					c.do("EHLO client.example", "250-")
					c.do("STARTTLS", "220 ")
					c.handshake(trusting("a.example"))
				},
			} {
				t.Run(name+" "+way, func(t *testing.T) {
					inBubble(t, mode, behindBalancer, mailServer, func(b *bubble) { requireIntroduced(b, send) })
				})
			}
		}
	})
}

// requireIntroduced carries a client from its header to its end.
func requireIntroduced(b *bubble, send func(*client)) {
	b.t.Helper()
	c := b.connect()
	send(c)
	if _, plain := c.conn.(*memoryConn); plain {
		c.secure(b.mode)
	}
	if b.mode == proxy.ModeImplicitTLS {
		c.expect("220 ")
	}
	c.do("NOOP", "250 ")
	got := b.backend.only().header
	if got.SourceAddr.String() != "198.51.100.7:4711" || got.DestinationAddr.String() != "203.0.113.1:587" || got.Command != proxyproto.PROXY {
		b.t.Errorf("the backend heard %v of %v to %v", got.Command, got.SourceAddr, got.DestinationAddr)
	}
	tlvs, err := got.TLVs()
	must(b.t, err)
	for _, tlv := range tlvs {
		if tlv.Type == 0xE7 || tlv.Type == proxyproto.PP2_TYPE_AUTHORITY && string(tlv.Value) != "a.example" {
			b.t.Errorf("the backend got TLV %#x: %q", tlv.Type, tlv.Value)
		}
	}
	c.do("QUIT", "221 ")
	line := b.session("ok")
	if line["client"] != "198.51.100.7:4711" || line["balancer"] != balancer {
		b.t.Errorf("line %v", line)
	}
}

// TestR19_HeaderWhereNoneIsWanted is no SMTP, and nothing more.
func TestR19_HeaderWhereNoneIsWanted(t *testing.T) {
	inBubble(t, proxy.ModeSTARTTLS, nil, mailServer, func(b *bubble) {
		c := b.connect()
		c.raw(headerV1)
		c.expect("220 ")
		c.expect("500 ")
		c.do("QUIT", "221 ")
		if line := b.session("pretls"); line["balancer"] != nil || line["client"] != balancer {
			b.t.Errorf("line %v", line)
		}
	})
}

// TestR51_HeaderIsRequired: what comes without a good one is closed without a
// word, counted, and reaches no backend.
func TestR51_HeaderIsRequired(t *testing.T) {
	good := headerV2(t)
	for _, c := range []struct {
		name, raw, reason, says string
		after                   time.Duration
	}{
		{"SMTP", "EHLO client.example\r\n", "proxy_missing", "no PROXY header: does the load balancer send one", 0},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "proxy_missing", "no PROXY header", 0},
		{"UNIX socket", good[:13] + "\x31\x00\xd8" + strings.Repeat("\x00", 216), "proxy_malformed", "does not come by TCP", 0},
		{"bad port", "PROXY TCP4 198.51.100.7 203.0.113.1 4711 99999\r\n", "proxy_malformed", "malformed PROXY header", 0},
		{"wrong checksum", good[:15] + "\x13" + good[16:28] + "\x03\x00\x04\x00\x00\x00\x00", "proxy_malformed", "wrong checksum", 0},
		{"nothing", "", "proxy_timeout", "no PROXY header within 5s", 5 * time.Second},
		{"half", good[:20], "proxy_timeout", "no PROXY header within 5s", 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, mode proxy.Mode) {
				inBubble(t, mode, behindBalancer, mailServer, func(b *bubble) {
					conn := b.connect()
					if c.raw != "" {
						conn.raw(c.raw)
					}
					b.takes(c.after, conn.gone)
					line := b.session("refused")
					contains(b.t, line["error"].(string), c.says)
					if line["client"] != balancer || line["level"] != "INFO" {
						b.t.Errorf("line %v", line)
					}
					b.counts(1, "connections_rejected_total", "reason", c.reason)
					requireNothingElse(b)
				})
			})
		})
	}
}

// requireNothingElse holds that no slot, backend or handshake is left of a
// connection.
func requireNothingElse(b *bubble) {
	b.t.Helper()
	time.Sleep(aDay) // in the bubble: every deadline passes
	synctest.Wait()
	if n := b.Slots(); n != 0 || b.backend.connections() != 0 {
		b.t.Errorf("%d slots are taken; the backend got %d connections", n, b.backend.connections())
	}
	b.counts(0, "connections_open")
	b.counts(0, "tls_handshake_failures_total")
}

// TestHeaderMayBeSlow: it has its time as a whole, however its bytes come.
func TestHeaderMayBeSlow(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		inBubble(t, mode, behindBalancer, mailServer, func(b *bubble) {
			c := b.connect()
			b.takes(5*time.Second, func() {
				for i := range 4 {
					c.raw(headerV1[i : i+1])
					time.Sleep(time.Second) // in the bubble
				}
				c.gone()
			})
			b.session("refused")

			in := b.connect()
			in.raw(headerV1[:10])
			time.Sleep(4900 * time.Millisecond) // in the bubble
			in.raw(headerV1[10:])
			time.Sleep(20 * time.Second) // in the bubble: the header's deadline is not the session's
			in.secure(mode)
			synctest.Wait() // it comes to the backend
		})
	})
}

// TestR51_UntrustedPeers are closed before a byte of theirs is read, and
// warned of at times.
func TestR51_UntrustedPeers(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		inBubble(t, mode, behindBalancer, mailServer, func(b *bubble) {
			for _, address := range []string{"192.0.3.1", "2001:db8::1", "::ffff:11.0.0.1", "127.0.0.1"} {
				c := b.connectFrom(address)
				b.takes(0, c.gone)
				if line := b.session("refused"); line["level"] != "DEBUG" {
					b.t.Errorf("line %v", line)
				}
			}
			b.counts(4, "connections_rejected_total", "reason", "proxy_untrusted")
			requireNothingElse(b)
			b.connectFrom("192.0.3.2").gone()
			log := b.log.text()
			if n := strings.Count(log, "WARN"); n != 2 {
				b.t.Errorf("%d warnings, want 2", n)
			}
			contains(b.t, log, `"peer":"192.0.3.1","refused":1}`, `"peer":"192.0.3.2","refused":4}`)

			for _, address := range []string{"10.9.9.9", "::ffff:10.1.2.3"} {
				c := b.connectFrom(address)
				c.raw(headerV1)
				b.welcomed(c)
			}
			synctest.Wait() // they come to the backend
		})
	})
}

// TestR76_LimitsAreOfTheHeadersClient and not of the load balancer, whose
// connections count in all from their beginning.
func TestR76_LimitsAreOfTheHeadersClient(t *testing.T) {
	const (
		enough = "421 4.7.0 proxy.example too many connections from your address"
		often  = "421 4.7.0 proxy.example too many connections from your address in a short time"
		full   = "421 4.7.0 proxy.example too many connections"
	)
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		inBubble(t, mode, behindBalancer, mailServer, func(b *bubble) {
			via := func(client string) *client {
				c := b.connect()
				c.raw("PROXY TCP4 " + client + " 203.0.113.1 4711 587\r\n")
				return c
			}
			b.SetLimits(limits(func(l *proxy.Limits) { l.ConnectionsPerClient = 1 }))
			first := b.welcomed(via("198.51.100.1"))
			b.welcomed(via("198.51.100.2"))
			again := via("198.51.100.1")
			synctest.Wait()
			b.refused(again, "per_client", enough)
			first.conn.Close()
			synctest.Wait()
			b.welcomed(via("198.51.100.1"))

			b.SetLimits(limits(func(l *proxy.Limits) { l.HandshakesPerSecondPerClient = 1 }))
			b.welcomed(via("198.51.100.3"))
			b.welcomed(via("198.51.100.3"))
			b.welcomed(via("198.51.100.4"))
			again = via("198.51.100.3")
			synctest.Wait()
			b.refused(again, "handshake_rate", often)

			synctest.Wait() // those let in come to the backend
			b.SetLimits(limits(func(l *proxy.Limits) { l.Connections = b.Slots() + 1 }))
			b.connect() // silent as yet
			b.refused(b.connect(), "max_connections", full)
		})
	})
}

// TestR86_HealthChecksOfTheBalancer: they connect and close, with or without a
// header. That is no failure, nor a line above debug, nor the backend's.
func TestR86_HealthChecksOfTheBalancer(t *testing.T) {
	for name, header := range map[string]string{"LOCAL": local, "UNKNOWN": unknown, "itself": itself, "nothing": ""} {
		t.Run(name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, mode proxy.Mode) {
				inBubble(t, mode, behindBalancer, mailServer, func(b *bubble) {
					b.SetLimits(limits(func(l *proxy.Limits) { l.ConnectionsPerClient = 1 }))
					for i := range 3 { // the limit of a client is not the load balancer's
						c := b.connect()
						if header != "" {
							c.raw(header)
						}
						if header != "" && mode == proxy.ModeSTARTTLS {
							c.expect("220 ")
							c.do("EHLO balancer.example", "250-")
							if i > 0 {
								c.do("QUIT", "221 ")
							}
						}
						synctest.Wait()
						c.conn.Close()
						if line := b.session("pretls"); line["level"] != "DEBUG" {
							b.t.Errorf("line %v", line)
						}
					}
					requireNothingElse(b)
					b.counts(0, "connections_rejected_total")
				})
			})
		})
	}
}

// TestR45_NoBackendWithoutClient: a connection of which the load balancer tells
// no client may see that we are there, and no more.
func TestR45_NoBackendWithoutClient(t *testing.T) {
	const refusal = "421 4.7.0 proxy.example the load balancer tells of no client ("
	refused := func(b *bubble) {
		b.t.Helper()
		if line := b.session("refused"); line["level"] != "DEBUG" || line["client"] != balancer {
			b.t.Errorf("line %v", line)
		}
		b.counts(1, "connections_rejected_total", "reason", "proxy_no_client")
		requireNothingElse(b)
	}
	for name, header := range map[string]string{"LOCAL": local, "UNKNOWN": unknown, "itself": itself} {
		t.Run(name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, mode proxy.Mode) {
				inBubble(t, mode, behindBalancer, mailServer, func(b *bubble) {
					c := b.connect()
					c.raw(header)
					c.secure(mode)
					if mode == proxy.ModeSTARTTLS {
						c.send("EHLO balancer.example")
					}
					c.expect(refusal)
					c.end()
					c.conn.Close()
					refused(b)
				})
			})
		})
		t.Run(name+" in plain text", func(t *testing.T) {
			optional := func(l *proxy.Listener) { behindBalancer(l); l.STARTTLS = starttls.Optional }
			inBubble(t, proxy.ModeSTARTTLS, optional, mailServer, func(b *bubble) {
				c := b.connect()
				c.raw(header)
				c.expect("220 ")
				c.do("EHLO balancer.example", "250-")
				c.do("MAIL FROM:<a@balancer.example>", refusal)
				c.end()
				c.conn.Close()
				refused(b)
			})
		})
	}
}

// TestDrainWhileTheHeaderIsAwaited: the client that comes behind it hears why
// there is nothing for it, and one that does not come is not waited for longer
// than for its header.
func TestDrainWhileTheHeaderIsAwaited(t *testing.T) {
	inBubble(t, proxy.ModeSTARTTLS, behindBalancer, mailServer, func(b *bubble) {
		b.connect()
		c := b.connect()
		synctest.Wait()
		b.takes(5*time.Second, func() {
			done := b.shutdown(time.Hour)
			c.raw(headerV1)
			c.expect("421 4.3.2 proxy.example shutting down")
			c.end()
			c.conn.Close()
			must(b.t, <-done)
		})
	})
}

// TestSilentBalancerHoldsUpNobody: the header is not waited for where clients
// are accepted.
func TestSilentBalancerHoldsUpNobody(t *testing.T) {
	backend := newBackend(t, mailServer)
	l := listenerTo(t, proxy.ModeSTARTTLS, backend.address)
	l.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	srv := serve(t, l)
	silent := make([]*client, 5)
	for i := range silent {
		silent[i] = srv.client("starttls")
	}
	c := srv.client("starttls")
	c.raw(headerV1)
	c.startTLS(trusting("a.example"))
	c.do("NOOP", "250 ")
	for _, c := range silent { // whose time is not over
		c.raw(headerV1)
		c.expect("220 ")
	}
}
