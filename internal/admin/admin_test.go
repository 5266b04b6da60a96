package admin_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/admin"
)

func gatherer(t *testing.T) *prometheus.Registry {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "test_total", Help: "A test."})
	counter.Add(7)
	reg.MustRegister(counter)
	return reg
}

func request(t *testing.T, h http.Handler, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, r)
	response := recorder.Result()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func TestPages(t *testing.T) {
	draining := errors.New(`draining, "soon" gone`)
	for _, test := range []struct {
		name         string
		config       admin.Config
		method, path string
		status       int
		body         string // a part of it; HEAD has none over the wire
	}{
		{name: "metrics", method: "GET", path: "/metrics", status: 200, body: "test_total 7"},
		{name: "alive", method: "GET", path: "/healthz", status: 200, body: "ok"},
		{name: "alive by HEAD", method: "HEAD", path: "/healthz", status: 200},
		{name: "always ready", method: "GET", path: "/readyz", status: 200, body: "{\"ready\":true}\n"},
		{name: "ready", config: admin.Config{Ready: func() error { return nil }},
			method: "GET", path: "/readyz", status: 200, body: "{\"ready\":true}\n"},
		{name: "not ready", config: admin.Config{Ready: func() error { return draining }},
			method: "GET", path: "/readyz", status: 503, body: `{"ready":false,"reason":"draining, \"soon\" gone"}`},
		{name: "metrics are not written", method: "POST", path: "/metrics", status: 405},
		{name: "readiness is not deleted", method: "DELETE", path: "/readyz", status: 405},
		{name: "nothing at the root", method: "GET", path: "/", status: 404},
		{name: "nothing below", method: "GET", path: "/healthz/x", status: 404},
		{name: "posting to nothing", method: "POST", path: "/nothing", status: 404},
		{name: "profiles", config: admin.Config{Pprof: true},
			method: "GET", path: "/debug/pprof/", status: 200, body: "goroutine"},
		{name: "a named profile", config: admin.Config{Pprof: true},
			method: "GET", path: "/debug/pprof/goroutine?debug=1", status: 200, body: "goroutine profile"},
		{name: "profiles by POST", config: admin.Config{Pprof: true},
			method: "POST", path: "/debug/pprof/symbol", status: 405},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.config.Gatherer = gatherer(t)
			response, body := request(t, admin.New(test.config), test.method, test.path)
			if response.StatusCode != test.status {
				t.Errorf("status %d, want %d", response.StatusCode, test.status)
			}
			if !strings.Contains(body, test.body) {
				t.Errorf("body %q, want %q in it", body, test.body)
			}
			for header, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
				if got := response.Header.Get(header); got != want {
					t.Errorf("%s: %q, want %q", header, got, want)
				}
			}
			if response.StatusCode == 405 && response.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow: %q", response.Header.Get("Allow"))
			}
		})
	}
}

// Requirement 86: pprof is off by default, and being alive says nothing about
// being ready.
func TestR86_PprofIsOffAndReadinessIsNotLiveness(t *testing.T) {
	asked := false
	h := admin.New(admin.Config{Gatherer: gatherer(t), Ready: func() error {
		asked = true
		return errors.New("the backend mta is down")
	}})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/profile"} {
		if response, _ := request(t, h, "GET", path); response.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: %d, want 404", path, response.StatusCode)
		}
	}
	if response, _ := request(t, h, "GET", "/healthz"); response.StatusCode != http.StatusOK || asked {
		t.Errorf("alive: %d, readiness asked: %t", response.StatusCode, asked)
	}
	if response, body := request(t, h, "GET", "/readyz"); response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ready: %d, %s", response.StatusCode, body)
	}
}

func TestMetricsSpeakOpenMetrics(t *testing.T) {
	h := admin.New(admin.Config{Gatherer: gatherer(t)})
	response, body := request(t, h, "GET", "/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	if kind := response.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/openmetrics-text") {
		t.Errorf("Content-Type: %q", kind)
	}
	if !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("the end is missing: %q", body)
	}
}

// One collector that fails is logged, and the others are still shown.
func TestMetricsOutliveABrokenCollector(t *testing.T) {
	reg := gatherer(t)
	reg.MustRegister(broken{prometheus.NewDesc("broken_total", "Broken.", nil, nil)})
	var log strings.Builder
	h := admin.New(admin.Config{Gatherer: reg, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	response, body := request(t, h, "GET", "/metrics")
	if response.StatusCode != http.StatusOK || !strings.Contains(body, "test_total 7") {
		t.Errorf("%d: %s", response.StatusCode, body)
	}
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log: %q", log.String())
	}
}

type broken struct{ desc *prometheus.Desc }

func (b broken) Describe(descs chan<- *prometheus.Desc) { descs <- b.desc }

func (b broken) Collect(metrics chan<- prometheus.Metric) {
	metrics <- prometheus.NewInvalidMetric(b.desc, errors.New("broken"))
}
