package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// reloads is the sample that counts what came into force.
const reloads = `smtp_tlsproxy_config_reloads_total{result="success"}`

// swap puts a link in place of another one, as Kubernetes and operators do.
func swap(t testing.TB, target, link string) {
	t.Helper()
	if err := os.Symlink(target, link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
}

// TestR42_ChangedFileIsRead without a signal, however it is changed, and once.
func TestR42_ChangedFileIsRead(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	for _, way := range []struct {
		name   string
		layout func(t *testing.T, dir, text string)            // puts the first config.yaml
		change func(t *testing.T, dir string, n int, s string) // the nth change
	}{
		{"in place", putFile, func(t *testing.T, dir string, _ int, text string) {
			writeFile(t, filepath.Join(dir, "config.yaml"), text)
		}},
		{"by rename", putFile, func(t *testing.T, dir string, _ int, text string) {
			aside := filepath.Join(dir, "aside")
			writeFile(t, aside, text)
			if err := os.Rename(aside, filepath.Join(dir, "config.yaml")); err != nil {
				t.Fatal(err)
			}
		}},
		{"ConfigMap", func(t *testing.T, dir, text string) {
			writeFile(t, filepath.Join(dir, "..0", "config.yaml"), text)
			swap(t, "..0", filepath.Join(dir, "..data"))
			swap(t, "..data/config.yaml", filepath.Join(dir, "config.yaml"))
		}, func(t *testing.T, dir string, n int, text string) {
			writeFile(t, filepath.Join(dir, fmt.Sprintf("..%d", n), "config.yaml"), text)
			swap(t, fmt.Sprintf("..%d", n), filepath.Join(dir, "..data"))
			if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", n-1))); err != nil {
				t.Fatal(err)
			}
		}},
		{"link to a file elsewhere", func(t *testing.T, dir, text string) {
			writeFile(t, filepath.Join(dir, "real", "there.yaml"), text)
			swap(t, "real/there.yaml", filepath.Join(dir, "config.yaml"))
		}, func(t *testing.T, dir string, _ int, text string) {
			writeFile(t, filepath.Join(dir, "real", "there.yaml"), text)
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := setup{certificates: certs, backend: server.address, rescan: "1h", dir: t.TempDir()}.complete(t)
			way.layout(t, s.dir, s.yaml())
			p := serveThere(t, s)
			for n := 1; n <= 3; n++ {
				way.change(t, s.dir, n, strings.ReplaceAll(s.yaml(), "mail.a.example", fmt.Sprintf("n%d.a.example", n)))
				p.waitMetric(t, reloads, fmt.Sprint(n+1)) // the start counts
				c := dial(t, p.submission, "")
				if greeting, err := c.expect(220); err != nil || !strings.HasPrefix(greeting, fmt.Sprintf("220 n%d.a.example ", n)) {
					t.Errorf("the greeting is %q, %v", greeting, err)
				}
			}
			for n := range 2 { // the same content in another file is refused once
				way.change(t, s.dir, n+4, "nonsense: [")
				p.waitMetric(t, `smtp_tlsproxy_config_reloads_total{result="error"}`, "1")
			}
			way.change(t, s.dir, 6, s.yaml())
			p.waitMetric(t, reloads, "5")
			if got := p.metric(t, `smtp_tlsproxy_config_reloads_total{result="error"}`); got != "1" {
				t.Errorf("%s refusals of one fault", got)
			}
		})
	}
}

func putFile(t *testing.T, dir, text string) {
	t.Helper()
	writeFile(t, filepath.Join(dir, "config.yaml"), text)
}

// serveThere serves the configuration that lies in the folder already.
func serveThere(t testing.TB, s setup) *proxy {
	t.Helper()
	p := &proxy{setup: s, file: filepath.Join(s.dir, "config.yaml")}
	p.process = startBinary(t, s.environment, "serve", "--config", p.file)
	t.Cleanup(func() { p.requireCleanEnd(t) })
	p.waitReady(t)
	return p
}

// TestR42_ChangedClientCAIsRead: a file that the configuration names counts as
// the configuration.
func TestR42_ChangedClientCAIsRead(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs, other := newCertificates(t), newCertificates(t)
	ca := filepath.Join(t.TempDir(), "clients.pem")
	writeFile(t, ca, string(certs.ca.PEM()))
	p := startProxy(t, setup{certificates: certs, backend: server.address, tls: "client_auth: {mode: verify_if_given, ca: " + ca + "}"})
	writeFile(t, ca, "no certificate")
	p.waitLog(t, "configuration refused", ca)
	writeFile(t, ca, string(other.ca.PEM()))
	p.waitMetric(t, reloads, "2")
}

// TestR82_TermInReload: a reload that waits for the disk, here for the writer
// of a pipe, does not keep the proxy from ending as it should.
func TestR82_TermInReload(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	for _, signals := range []int{1, 2} {
		p := startProxy(t, setup{certificates: certs, backend: server.address, drain: "1m"})
		pipe := filepath.Join(p.dir, "pipe.pem")
		if err := syscall.Mkfifo(pipe, 0o644); err != nil {
			t.Fatal(err)
		}
		idle, sending := open(t, p.ports()[1], clientOptions{serverName: defaultDomain, trust: certs}), open(t, p.ports()[0], clientOptions{serverName: defaultDomain, trust: certs})
		idle.must(t, 250, "EHLO client.test")
		sending.mailTo(t, "client.test", "r@x")
		s := p.setup
		s.tls = "client_auth: {mode: verify_if_given, ca: " + pipe + "}"
		p.rewrite(t, s.yaml())
		holdPipe(t, pipe)
		p.terminate(t)
		requireDrained(t, idle)
		if signals == 2 {
			p.signal(t, syscall.SIGTERM)
			p.requireExit(t, 1)
			continue
		}
		sending.must(t, 354, "DATA")
		sending.must(t, 250, "text\r\n.")
		requireDrained(t, sending)
		p.requireExit(t, 0)
	}
}

// holdPipe waits until the process reads the pipe, and lets it wait for more
// until the end of the test.
func holdPipe(t testing.TB, pipe string) {
	t.Helper()
	eventually(t, "the reload reads "+pipe, func() bool {
		writer, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // ENXIO without a reader
		if err == nil {
			t.Cleanup(func() { writer.Close() })
		}
		return err == nil
	})
}
