package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// trouble is what goes on beside the mail.
type trouble struct {
	name  string
	every time.Duration
	do    func(w *world, n int) error // the n-th time
}

var troubles = []trouble{
	{"renewals", 2 * time.Second, (*world).renew},
	{"folders made or removed", 3 * time.Second, (*world).makeOrRemove},
	{"reloads", 5 * time.Second, (*world).reload},
	{"kills of a backend", 7 * time.Second, (*world).kill},
	{"scrapes", time.Second, (*world).scrape},
	{"flooding clients", 50 * time.Millisecond, (*world).flood},
}

// make goes on until the context ends. What it meets is a violation.
func (t trouble) make(ctx context.Context, w *world) {
	next := time.NewTicker(t.every)
	defer next.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		if err := t.do(w, n); err != nil {
			w.violation("%s: %v", t.name, err)
		}
		w.count("trouble", t.name)
	}
}

// renew puts a new certificate into a folder, with renames: each folder in turn.
func (w *world) renew(n int) error {
	names := []string{byDefault, "ecdsa.soak.example", "rsa.soak.example", "*.wild.soak.example"}
	name := names[n%len(names)]
	return w.proxy.ca.WriteFolder(w.proxy.certificates(), name, folders[name])
}

// makeOrRemove does so with a folder in turn.
func (w *world) makeOrRemove(n int) error {
	const name = "new.soak.example"
	if n%2 == 0 {
		return w.proxy.ca.WriteFolder(w.proxy.certificates(), name, devcert.Leaf{Names: []string{name}})
	}
	return os.RemoveAll(filepath.Join(w.proxy.certificates(), name))
}

// reload has the proxy read a good configuration, and then a broken one. A
// file that changes is read by itself as well, so there are up to two for one.
func (w *world) reload(n int) error {
	extra := fmt.Sprintf("  - {name: extra, address: %q, mode: implicit}\n", w.proxy.extra)
	files := []struct {
		limits, more string
		good         bool
	}{
		{"", extra, true}, {"", "nonsense: true\n", false}, {", pretls_commands: 50", "", true},
		{"", fmt.Sprintf("  - {name: taken, address: %q, mode: implicit}\n", w.sinks[0].address), false}, {"", "", true},
	}
	file := files[n%len(files)]
	if !file.good && n%len(files) == 3 && w.sinks[0].dead() {
		return nil // its address would be free
	}
	kind := "good"
	if !file.good {
		kind = "broken"
	}
	before, err := w.proxy.metrics()
	if err != nil {
		return err
	}
	if err := w.proxy.configure(w.proxy.config(w.sinks, file.limits, file.more)); err != nil {
		return err
	}
	if err := w.proxy.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	w.count("reload", kind)
	const total, last = "smtp_tlsproxy_config_reloads_total", "smtp_tlsproxy_config_last_reload_successful"
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		now, err := w.proxy.metrics()
		if err != nil {
			return err
		}
		if now[total] > before[total] && (now[last] == 1) == file.good {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("a %s configuration was not taken for one", kind)
		}
	}
}

// kill ends one backend and starts it again, each in turn.
func (w *world) kill(n int) error {
	s := w.sinks[n%len(w.sinks)]
	w.kills.Add(1)
	s.kill()
	time.Sleep(2 * time.Second)
	err := s.start()
	for deadline := time.Now().Add(10 * time.Second); err == nil; time.Sleep(100 * time.Millisecond) {
		var now map[string]float64
		if now, err = w.proxy.metrics(); err == nil && now["smtp_tlsproxy_backend_up"] == float64(len(w.sinks)) {
			break
		}
		if time.Now().After(deadline) {
			err = fmt.Errorf("the proxy does not find %s again", s.address)
		}
	}
	w.back.Store(time.Now().UnixNano())
	w.kills.Add(1) // from here on, nobody suffers from it
	return err
}

// scrape reads what Prometheus and people do.
func (w *world) scrape(int) error {
	for _, page := range []string{"/metrics", "/status.json", "/", "/healthz", "/readyz"} {
		if err := w.proxy.get(page); err != nil {
			return err
		}
	}
	return nil
}

// flood is one bad client: silent, with garbage, or with a reset.
func (w *world) flood(n int) error {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, 0, byte(1+n%60))}}
	conn, err := dialer.Dial("tcp", w.proxy.ports[n%len(w.proxy.ports)])
	if err != nil {
		return err
	}
	w.flooding.Go(func() {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Duration(mathrand.N(20)) * time.Second))
		switch n / len(w.proxy.ports) % 3 {
		case 0: // silent
		case 1:
			garbage := make([]byte, 400)
			_, _ = rand.Read(garbage) // never fails
			_, _ = conn.Write(garbage)
		case 2:
			_, _ = conn.Write([]byte{22, 3, 1, 1, 139, 1, 0, 1, 135})
			_ = conn.(*net.TCPConn).SetLinger(0)
			return
		}
		_, _ = io.Copy(io.Discard, conn) // that it fails is the fate of an attacker
	})
	return nil
}
