package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// TestCheckBackend probes backends of every kind, with both versions.
func TestCheckBackend(t *testing.T) {
	tests := []struct {
		name   string
		script func(*peer)
		want   string // "" for a good one
	}{
		{"good", mailServer, ""},
		{"several lines", func(p *peer) {
			p.send("220-one", "220 two")
			p.command()
			p.command()
		}, ""},
		{"leaves without 221", func(p *peer) {
			p.send("220 ready")
			p.command()
			p.expect("QUIT")
		}, ""},
		{"refuses EHLO", func(p *peer) {
			p.send("220 ready")
			p.line()
			p.send("421 4.3.2 not now")
		}, "its reply to EHLO refuses clients: 421 4.3.2 not now"},
		{"refuses", func(p *peer) { p.send("554 5.7.1 not you") }, "its greeting refuses clients: 554 5.7.1 not you"},
		{"hangs up", func(*peer) {}, "no greeting: EOF; does it expect the PROXY header (version "},
		{"garbage", func(p *peer) { p.send("SSH-2.0-OpenSSH") }, "not an SMTP reply"},
		{"half a reply", func(p *peer) { p.send("354 go ahead") }, "not an SMTP reply"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for version, info := range map[int]proxy.ClientInfo{1: proxy.ProxyV1, 2: proxy.ProxyV2} {
				backend := newBackend(t, test.script)
				err := proxy.CheckBackend(t.Context(), proxy.Backend{Name: "mta", Addresses: []string{backend.address}, ClientInfo: info})
				if test.want == "" {
					must(t, err)
				} else if err == nil {
					t.Fatal("no error")
				} else {
					contains(t, err.Error(), test.want, "backend mta: address "+backend.address+": ")
				}
				header := backend.only().header
				if int(header.Version) != version {
					t.Errorf("header %+v", header)
				}
				// Version 2 says that the connection is the proxy's own; there is
				// no such version 1 that Postfix takes.
				if version == 2 && !header.Command.IsLocal() {
					t.Errorf("header %+v", header)
				}
			}
		})
	}
}

// TestCheckBackendNames tells of each address.
func TestCheckBackendNames(t *testing.T) {
	good := newBackend(t, mailServer)
	refused := freeAddress(t)
	err := proxy.CheckBackend(t.Context(), proxy.Backend{
		Name: "mta", Addresses: []string{refused, good.address, "unix:/nonexistent"}, ClientInfo: proxy.ProxyV2,
	})
	if err == nil {
		t.Fatal("no error")
	}
	contains(t, err.Error(), "backend mta: dial tcp "+refused+": ", "connection refused", "dial unix /nonexistent: ")
	if lines := strings.Count(err.Error(), "\n"); lines != 1 {
		t.Errorf("errors %q", err)
	}
	if n := good.connections(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestCheckBackendUnix probes a unix socket, whose ends have no address for
// the header.
func TestCheckBackendUnix(t *testing.T) {
	file := filepath.Join(t.TempDir(), "smtp")
	l, err := net.Listen("unix", file)
	must(t, err)
	var served sync.WaitGroup
	defer served.Wait()
	defer l.Close()
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(conn)
			if _, err := proxyproto.Read(r); err == nil {
				_, _ = io.WriteString(conn, "220 ready\r\n")
				_, _ = r.ReadString('\n')
				_, _ = io.WriteString(conn, "250 unix.example\r\n")
				_, _ = r.ReadString('\n')
			}
			conn.Close()
		}
	})
	for _, info := range []proxy.ClientInfo{proxy.ProxyV1, proxy.ProxyV2} {
		must(t, proxy.CheckBackend(t.Context(), proxy.Backend{Name: "mta", Addresses: []string{"unix:" + file}, ClientInfo: info}))
	}
}

// TestCheckBackendEndsWithContext: a silent backend does not hold up the caller.
func TestCheckBackendEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	backend := newBackend(t, func(p *peer) {
		cancel()
		p.line()
	})
	err := proxy.CheckBackend(ctx, proxy.Backend{Name: "mta", Addresses: []string{backend.address}, ClientInfo: proxy.ProxyV2})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
