// Package admin serves the pages for those who run the program, on an address
// of their own: metrics, liveness, readiness and, where it is asked for,
// profiles. [New] is the pages, [Server] an HTTP server fit for them.
//
// The pages have no secrets and change nothing, but there is no login either:
// the address is to be a private one. Profiles tell much of the program's
// memory and are off unless the configuration names them.
package admin

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// maxScrapes is how many scrapes run at once; a second Prometheus server
	// and a person's browser fit in.
	maxScrapes = 3
	// scrapeTimeout is Prometheus's own default.
	scrapeTimeout = 10 * time.Second
)

// Config is what the pages show.
type Config struct {
	// Gatherer is what /metrics shows; required.
	Gatherer prometheus.Gatherer
	// Ready returns why the program should get no clients now, for /readyz.
	// Nil is a program that is always ready.
	Ready func() error
	// Status returns what /status.json and the page at / show. Nil is no such
	// pages.
	Status func(Query) Status
	// Pprof adds /debug/pprof/.
	Pprof bool
	// Logger gets the faults of the pages; nil discards them. Requests are
	// not logged.
	Logger *slog.Logger
}

// New returns the pages. Methods other than GET and HEAD are refused.
func New(config Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(config.Gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(config.logger().Handler(), slog.LevelError),
		// A collector that fails must not hide the others.
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
		EnableOpenMetrics:   true,
	}))
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", config.readyz)
	if config.Status != nil {
		mux.HandleFunc("GET /{$}", config.page)
		mux.HandleFunc("GET /status.css", styles)
		mux.HandleFunc("GET /status.json", config.status)
	}
	if config.Pprof {
		// Index serves the named profiles too. Profiles that take long move the
		// server's write deadline themselves.
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return guarded(mux)
}

func (c Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Logger
}

// healthz tells that the process runs and answers. It asks nothing else: a
// restart mends no backend and no certificate.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n")) // a probe that has gone needs no answer
}

// readiness is the body of /readyz.
type readiness struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
}

// readyz tells whether clients should be sent here.
func (c Config) readyz(w http.ResponseWriter, _ *http.Request) {
	answer, status := readiness{Ready: true}, http.StatusOK
	if c.Ready != nil {
		if err := c.Ready(); err != nil {
			answer, status = readiness{Reason: err.Error()}, http.StatusServiceUnavailable
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // as in healthz
}

// status tells how things stand, for scripts.
func (c Config) status(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	_ = out.Encode(c.Status(queryOf(r.URL.Query()))) // as in healthz
}

// page tells the same, for people.
func (c Config) page(w http.ResponseWriter, r *http.Request) {
	var text bytes.Buffer
	if err := writePage(&text, c.Status(queryOf(r.URL.Query()))); err != nil {
		c.logger().Error("status page: this is a bug, please report it", "error", err)
		http.Error(w, "the page can not be shown; status.json tells the same", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", policy)
	_, _ = w.Write(text.Bytes()) // as in healthz
}

func styles(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(styleSheet) // as in healthz
}

// policy lets the page have our style sheet and our form. Whatever a client
// might smuggle into it by its server name, no browser runs it or loads
// anything for it.
const policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// guarded keeps browsers from guessing at types, showing the pages within
// others, and telling others where they are; and all from storing what is true
// only now.
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Set("Referrer-Policy", "no-referrer")
		if !meant(r) {
			http.Error(w, "ask for localhost or for an IP address: another name may be a web site's that leads here", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// meant reports whether a request to a loopback address asks for such a one. A
// web site can have its own name lead to 127.0.0.1, and a browser on this
// machine would let its scripts read what is answered (DNS rebinding).
func meant(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !local.IP.IsLoopback() || r.Host == "" { // without a name, it is no browser
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host) != nil
}
