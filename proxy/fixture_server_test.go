package proxy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// listenerTo is a listener with a backend of one address, without health
// checks. Tests change it.
func listenerTo(t testing.TB, mode proxy.Mode, address string) proxy.Listener {
	t.Helper()
	return proxy.Listener{
		Name:         mode.String(),
		Address:      "127.0.0.1:0",
		Mode:         mode,
		Certificates: openStore(t),
		Hostname:     "proxy.example",
		Backend: proxy.Backend{
			Name: "mta", Addresses: []string{address}, ClientInfo: proxy.ProxyV2,
			ProxyTLVs:   []string{"ssl", "authority", "unique_id", "crc32c"},
			HealthCheck: proxy.HealthCheck{Interval: -1}, // the tests count connections
		},
	}
}

// unlimited is for tests whose one client comes more often than any client
// should.
var unlimited = proxy.Limits{
	Connections: -1, ConnectionsPerClient: -1, HandshakesPerSecondPerClient: -1, ConcurrentHandshakes: -1,
}

// server is a Server under test, with what it logs and counts.
type server struct {
	*proxy.Server
	t        testing.TB
	log      *logbook
	registry *prometheus.Registry
	patience time.Duration
}

// listen makes a server that does not serve yet. It is closed with the test.
func listen(t testing.TB, listeners ...proxy.Listener) *server {
	t.Helper()
	srv := &server{t: t, log: newLogbook(), registry: prometheus.NewPedanticRegistry(), patience: patience}
	metrics := proxy.NewMetrics(srv.registry)
	metrics.AddDomain("a.example") // as if it were loaded, and the others not
	var err error
	srv.Server, err = proxy.Listen(proxy.Config{
		Listeners: listeners,
		Limits:    unlimited,
		Metrics:   metrics,
		Logger:    slog.New(slog.NewJSONHandler(srv.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	must(t, err)
	t.Cleanup(func() {
		must(t, srv.Close())
		if t.Failed() {
			t.Logf("log:\n%s", srv.log.text())
		}
	})
	return srv
}

// serve is listen, and serves.
func serve(t testing.TB, listeners ...proxy.Listener) *server {
	t.Helper()
	srv := listen(t, listeners...)
	served := make(chan error, 1)
	go func() { served <- srv.Serve() }()
	t.Cleanup(func() {
		must(t, srv.Close())
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return srv
}

// client connects to the listener of that name.
func (srv *server) client(listener string) *client {
	srv.t.Helper()
	return dialClient(srv.t, srv.Addr(listener))
}

// tlsClient connects and is under TLS when it returns.
func (srv *server) tlsClient(mode proxy.Mode) *client {
	srv.t.Helper()
	c := srv.client(mode.String())
	if mode == proxy.ModeSTARTTLS {
		c.startTLS(trusting("a.example"))
	} else {
		c.handshake(trusting("a.example"))
	}
	return c
}

// metric is the sum of the series that have the labels, given as pairs; -1
// when there is none.
func (srv *server) metric(name string, labels ...string) float64 {
	srv.t.Helper()
	families, err := srv.registry.Gather()
	must(srv.t, err)
	sum, found := 0.0, false
	for _, family := range families {
		if family.GetName() != "smtp_tlsproxy_"+name {
			continue
		}
	series:
		for _, m := range family.GetMetric() {
			has := make(map[string]string)
			for _, pair := range m.GetLabel() {
				has[pair.GetName()] = pair.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if has[labels[i]] != labels[i+1] {
					continue series
				}
			}
			found = true
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	if !found {
		return -1
	}
	return sum
}

// counts checks that sum.
func (srv *server) counts(want float64, name string, labels ...string) {
	srv.t.Helper()
	if got := srv.metric(name, labels...); got != want {
		srv.t.Errorf("%s%q is %v, want %v", name, labels, got, want)
	}
}

// session waits for the line of the next session that ends, and checks its
// outcome.
func (srv *server) session(outcome string) map[string]any {
	srv.t.Helper()
	var line map[string]any
	select {
	case line = <-srv.log.sessions:
	case <-time.After(srv.patience):
		srv.t.Fatalf("no session ended; log:\n%s", srv.log.text())
	}
	if line["outcome"] != outcome {
		srv.t.Errorf("session ended as %v, want %s: %v", line["outcome"], outcome, line)
	}
	return line
}

// logbook takes the lines of a JSON handler, one in each Write.
type logbook struct {
	sessions chan map[string]any
	mu       sync.Mutex
	all      bytes.Buffer
}

func newLogbook() *logbook { return &logbook{sessions: make(chan map[string]any, 1024)} }

func (b *logbook) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all.Write(line)
	fields := make(map[string]any)
	if err := json.Unmarshal(line, &fields); err != nil {
		return 0, err
	}
	if fields["msg"] == "session" {
		b.sessions <- fields
	}
	return len(line), nil
}

func (b *logbook) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// bothModes runs a test on implicit TLS and on STARTTLS.
func bothModes(t *testing.T, test func(*testing.T, proxy.Mode)) {
	for _, mode := range []proxy.Mode{proxy.ModeImplicitTLS, proxy.ModeSTARTTLS} {
		t.Run(mode.String(), func(t *testing.T) { test(t, mode) })
	}
}

// freeAddress is one where nothing listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// contains checks that a text has all of the parts.
func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in %q", part, text)
		}
	}
}
