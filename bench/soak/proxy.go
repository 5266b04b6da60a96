package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/measure"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/program"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// proxy is the program, in a process of its own.
type proxy struct {
	cmd   *exec.Cmd
	dir   string
	ca    *devcert.CA
	ports [3]string
	extra string // a port that reloads open and close
	admin string
	log   *logReader
}

// folders are those that are there from the start.
var folders = map[string]devcert.Leaf{
	byDefault:             {Names: []string{byDefault}},
	"ecdsa.soak.example":  {Names: []string{"ecdsa.soak.example"}},
	"rsa.soak.example":    {Names: []string{"rsa.soak.example"}, Key: devcert.RSA2048},
	"*.wild.soak.example": {Names: []string{"*.wild.soak.example"}},
}

// startProxy makes the files and runs the program with them. Its log is read
// while killing tells whether a backend is being killed.
func startProxy(backends []*sink, killing func() bool) (p *proxy, err error) {
	p = &proxy{log: newLogReader(killing)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.stop())
		}
	}()
	if p.dir, err = os.MkdirTemp("", "smtp-tlsproxy-soak-"); err != nil {
		return p, err
	}
	if p.ca, err = devcert.NewCA("soak"); err != nil {
		return p, err
	}
	for folder, leaf := range folders {
		if err = p.ca.WriteFolder(p.certificates(), folder, leaf); err != nil {
			return p, err
		}
	}
	secret := make([]byte, 48)
	_, _ = rand.Read(secret) // never fails
	if err = os.WriteFile(filepath.Join(p.dir, "tickets"), []byte(hex.EncodeToString(secret)+"\n"), 0o600); err != nil {
		return p, err
	}
	if err = program.FreeAddresses(&p.ports[0], &p.ports[1], &p.ports[2], &p.extra, &p.admin); err != nil {
		return p, err
	}
	if err = p.configure(p.config(backends, "", "")); err != nil {
		return p, err
	}
	return p, p.run()
}

func (p *proxy) run() error {
	p.cmd = exec.Command(*binary, "serve", "--config", p.file())
	output, err := p.cmd.StderrPipe()
	if err != nil {
		p.cmd = nil
		return err
	}
	if err := p.cmd.Start(); err != nil {
		p.cmd = nil
		return err
	}
	go p.log.read(output)
	return program.WaitReady(p.admin)
}

func (p *proxy) certificates() string { return filepath.Join(p.dir, "certs") }
func (p *proxy) file() string         { return filepath.Join(p.dir, "config.yaml") }

// config is the configuration, with what a reload adds to its limits and at its
// end.
func (p *proxy) config(backends []*sink, limits, more string) string {
	return fmt.Sprintf(`certificates: {directory: certs, default: %s, rescan: 5s}
tls:
  session_tickets: {enabled: true, secret_file: tickets}
backends:
  mta:
    addresses: [%q, %q]
    health_check: {interval: 1s, timeout: 1s, rise: 1, fall: 1}
admin: {address: %q, pprof: true}
log: {format: json}
timeouts: {drain: 5s}
limits: {connections: 1000%s}
listeners:
  - {name: submissions, address: %q, mode: implicit}
  - {name: submission, address: %q, mode: starttls, starttls: required, hostname: %s}
  - {name: mx, address: %q, mode: starttls, starttls: optional, hostname: %s}
%s`, byDefault, backends[0].address, backends[1].address, p.admin, limits, p.ports[submissions], p.ports[submission], byDefault, p.ports[mx], byDefault, more)
}

// configure replaces the configuration file as a whole.
func (p *proxy) configure(text string) error {
	aside := p.file() + ".new"
	if err := os.WriteFile(aside, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(aside, p.file())
}

// get asks the admin address for a page that must be there.
func (p *proxy) get(page string) error {
	_, err := p.page(page)
	return err
}

func (p *proxy) page(page string) ([]byte, error) {
	client := http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + p.admin + page)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || len(text) == 0) {
		err = fmt.Errorf("%s: status %s with %d bytes", page, response.Status, len(text))
	}
	return text, err
}

// metrics are the sums of each family over its series.
func (p *proxy) metrics() (map[string]float64, error) {
	text, err := p.page("/metrics")
	if err != nil {
		return nil, err
	}
	sums := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		blank := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || blank < 0 {
			continue
		}
		name, _, _ := strings.Cut(line[:blank], "{")
		if n, err := strconv.ParseFloat(strings.TrimSpace(line[blank:]), 64); err == nil {
			sums[name] += n
		}
	}
	return sums, nil
}

// holding is what the process holds.
type holding struct {
	pss                           int64
	live                          int64 // bytes of the heap that are in use
	goroutines, descriptors, open int
}

func (h holding) String() string {
	return fmt.Sprintf("PSS %.1f MB, heap in use %.1f MB, %d goroutines, %d file descriptors, %d connections", measure.MB(h.pss), measure.MB(h.live), h.goroutines, h.descriptors, h.open)
}

// holds tells that. What the heap has in use is exact behind collect.
func (p *proxy) holds() (h holding, err error) {
	sums, err := p.metrics()
	if err != nil {
		return h, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return holding{
		pss: measure.PSS(p.cmd.Process.Pid), live: int64(sums["go_memstats_heap_alloc_bytes"]), goroutines: int(sums["go_goroutines"]),
		descriptors: len(files), open: int(sums["smtp_tlsproxy_connections_open"]),
	}, err
}

// collect runs the proxy's garbage collector.
func (p *proxy) collect() error { return p.get("/debug/pprof/heap?gc=1") }

// stop ends the proxy, which must do so by itself.
func (p *proxy) stop() error {
	defer os.RemoveAll(p.dir)
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	cut := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer cut.Stop()
	<-p.log.done // the pipe is read to its end before Wait closes it
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("the proxy: %w; its log ends with:\n%s", err, p.log.tail())
	}
	return nil
}

// logReader follows the log, and keeps what is not explained.
type logReader struct {
	killing func() bool
	done    chan struct{}

	mu          sync.Mutex
	lines       int
	explained   map[string]int // by the name of the explanation
	unexplained []string
	last        []string
}

func newLogReader(killing func() bool) *logReader {
	return &logReader{killing: killing, done: make(chan struct{}), explained: make(map[string]int)}
}

func (l *logReader) read(output io.Reader) {
	defer close(l.done)
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			l.take(bytes.TrimSpace(line))
		}
		if err != nil {
			return
		}
	}
}

func (l *logReader) take(line []byte) {
	name, ok := explain(line, l.killing())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines++
	switch {
	case !ok:
		l.unexplained = append(l.unexplained, string(line))
	case name != "":
		l.explained[name]++
	}
	if l.last = append(l.last, string(line)); len(l.last) > 20 {
		l.last = l.last[1:]
	}
}

func (l *logReader) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.last, "\n")
}
