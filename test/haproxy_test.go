package test

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// haproxy is a load balancer in front of listeners of the proxy, in TCP mode.
type haproxy struct {
	*process
	ports []port // where clients connect
}

// ahead is what HAProxy has in front of one port.
type ahead struct {
	of      port
	host    string // that clients connect to; 127.0.0.1
	server  string // keywords of its server line
	options string // further lines
}

// startHAProxy starts it with one address for each of the ports.
func startHAProxy(t testing.TB, sections ...ahead) *haproxy {
	t.Helper()
	need(t, "haproxy")
	h := &haproxy{}
	var text strings.Builder
	text.WriteString(`global
    maxconn 100
    log stdout format raw local0
defaults
    mode tcp
    log global
    timeout check 20s
    timeout connect 20s
    timeout client 1m
    timeout server 1m
`)
	for i, s := range sections {
		front := s.of
		front.address = loopback(t)
		if s.host != "" {
			front.address = net.JoinHostPort(s.host, strconv.Itoa(portOf(t, front.address)))
		}
		fmt.Fprintf(&text, "listen port%d\n    bind %s\n    server proxy %s %s\n", i, front.address, s.of.address, s.server)
		for line := range strings.Lines(s.options) {
			text.WriteString("    " + strings.TrimSpace(line) + "\n")
		}
		h.ports = append(h.ports, front)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "haproxy.cfg")
	writeFile(t, file, text.String())
	program, err := lookPath("haproxy")
	if err != nil {
		t.Fatal(err)
	}
	h.process = startProcess(t, "HAProxy", filepath.Join(dir, "haproxy.log"), exec.Command(program, "-db", "-f", file))
	for _, port := range h.ports {
		waitListening(t, h.process, port.address)
	}
	return h
}
