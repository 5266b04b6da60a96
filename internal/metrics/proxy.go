package metrics

import (
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// The domains of sni_requests_total that are no folder.
const (
	DomainNone  = none  // the client sent no server name
	DomainOther = other // no folder has the name
)

// Proxy counts what the sessions do. Make one with [NewProxy].
type Proxy struct {
	connections       *prometheus.CounterVec
	open              *prometheus.GaugeVec
	rejected          *prometheus.CounterVec
	limit             prometheus.Gauge
	waiting           prometheus.Gauge
	acceptErrors      *prometheus.CounterVec
	handshakes        *prometheus.CounterVec
	handshakeFailures *prometheus.CounterVec
	clientAlerts      *prometheus.CounterVec
	handshakeDuration *prometheus.HistogramVec
	starttls          *prometheus.CounterVec
	sessions          *prometheus.CounterVec
	sessionDuration   *prometheus.HistogramVec
	messages          *prometheus.CounterVec
	bytes             *prometheus.CounterVec
	dialDuration      *prometheus.HistogramVec
	backendErrors     *prometheus.CounterVec
	backendUp         *prometheus.GaugeVec
	healthChecks      *prometheus.CounterVec
	sni               *prometheus.CounterVec
	panics            prometheus.Counter
	shown             *prometheus.Registry // what Counted reads

	domainsMu sync.RWMutex                  // guards domains
	domains   map[string]prometheus.Counter // the closed set of sni_requests_total

	mu        sync.Mutex // guards what follows
	listeners map[string]*Listener
	backends  map[string]*Backend
}

// NewProxy registers the families of the sessions with reg.
func NewProxy(reg prometheus.Registerer) *Proxy {
	r := registry{reg}
	p := &Proxy{
		connections: r.counters("connections_total",
			"Client connections accepted.", "listener"),
		open: r.gauges("connections_open",
			"Client connections that are open now.", "listener"),
		rejected: r.counters("connections_rejected_total",
			"Client connections that were closed as soon as they were accepted, or for their PROXY header, by reason.", "listener", "reason"),
		limit: r.gauges("connections_limit",
			"The most client connections that may be open at once; 0 when there is no limit.").WithLabelValues(),
		waiting: r.gauges("handshakes_waiting",
			"TLS handshakes that wait for others to be computed.").WithLabelValues(),
		acceptErrors: r.counters("accept_errors_total",
			"Failed attempts to accept a connection, as when file descriptors run out.", "listener"),
		handshakes: r.counters("tls_handshakes_total",
			"TLS handshakes with clients, by what was negotiated.",
			"listener", "result", "version", "cipher", "group", "resumed"),
		handshakeFailures: r.counters("tls_handshake_failures_total",
			"TLS handshakes with clients that failed, by reason.", "listener", "reason"),
		clientAlerts: r.counters("tls_client_alerts_total",
			"TLS handshakes that the client ended with an alert, by the alert's name in RFC 8446.", "listener", "alert"),
		handshakeDuration: r.histograms("tls_handshake_duration_seconds",
			"Time that successful TLS handshakes took.", exchangeBuckets, "listener"),
		starttls: r.counters("starttls_total",
			"Plain phases of STARTTLS listeners, by how they ended.", "listener", "outcome"),
		sessions: r.counters("sessions_total",
			"Sessions that ended, by how.", "listener", "backend", "outcome"),
		sessionDuration: r.histograms("session_duration_seconds",
			"Time from accepting a client to the end of its session.", sessionBuckets, "listener"),
		messages: r.counters("messages_total",
			"Messages that the backend took over, by whether the client used TLS.", "listener", "tls"),
		bytes: r.counters("bytes_total",
			"Bytes relayed, without TLS and PROXY header.", "listener", "direction"),
		dialDuration: r.histograms("backend_dial_duration_seconds",
			"Time that successful connections to a backend took.", exchangeBuckets, "backend"),
		backendErrors: r.counters("backend_errors_total",
			"Backend connections that failed before the end of the greeting, by reason.", "backend", "reason"),
		backendUp: r.gauges("backend_up",
			"Whether a backend's address is in service.", "backend", "address"),
		healthChecks: r.counters("backend_health_checks_total",
			"Health checks of a backend's addresses, by result.", "backend", "result"),
		sni: r.counters("sni_requests_total",
			"Handshakes by the certificate folder that the client's server name led to.", "domain"),
		panics: r.counters("panics_total",
			"Panics that ended a session; each is a bug.").WithLabelValues(),
		domains:   make(map[string]prometheus.Counter),
		listeners: make(map[string]*Listener),
		backends:  make(map[string]*Backend),
	}
	p.shown = shownOf(p.open, p.handshakes)
	p.AddDomain(DomainNone)
	p.AddDomain(DomainOther)
	return p
}

// Panic counts a session that ended in a panic.
func (p *Proxy) Panic() { p.panics.Inc() }

// ConnectionsLimit tells how many connections may be open, 0 for any number.
func (p *Proxy) ConnectionsLimit(n int) { p.limit.Set(float64(n)) }

// HandshakeWaits counts a handshake that begins to wait for its turn.
func (p *Proxy) HandshakeWaits() { p.waiting.Inc() }

// HandshakeGoesOn counts that it waits no more.
func (p *Proxy) HandshakeGoesOn() { p.waiting.Dec() }

// AddDomain takes a folder whose certificate came into service into the closed
// set of domains; its series starts at 0.
func (p *Proxy) AddDomain(folder string) {
	p.domainsMu.Lock()
	defer p.domainsMu.Unlock()
	p.domains[folder] = p.sni.WithLabelValues(folder)
}

// RemoveDomain deletes the series of a folder that is gone.
func (p *Proxy) RemoveDomain(folder string) {
	if folder == DomainNone || folder == DomainOther {
		return
	}
	p.domainsMu.Lock()
	defer p.domainsMu.Unlock()
	delete(p.domains, folder)
	p.sni.DeleteLabelValues(folder)
}

// SNIRequest counts a handshake by the folder that its server name led to,
// [DomainNone] or [DomainOther]. A domain that [Proxy.AddDomain] was not told
// of counts as DomainOther, so that no client can make a series.
func (p *Proxy) SNIRequest(domain string) {
	p.domainsMu.RLock()
	defer p.domainsMu.RUnlock()
	counter, ok := p.domains[domain]
	if !ok {
		counter = p.domains[DomainOther]
	}
	counter.Inc()
}

// Listener returns the handle of a listener, the same one for the same name.
// The backends are those that its sessions may be given to; naming them only
// starts their series at 0.
func (p *Proxy) Listener(name string, backends ...*Backend) *Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.listeners[name]
	if !ok {
		l = newListener(p, name)
		p.listeners[name] = l
	}
	for _, b := range backends {
		l.sessionsOf(b)
	}
	return l
}

// RemoveListener deletes the series of a listener that the configuration no
// longer has. What its last sessions still count is lost.
func (p *Proxy) RemoveListener(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, ok := p.listeners[name]
	if !ok {
		return
	}
	delete(p.listeners, name)
	l.remove()
	p.deleteSeries("listener", name)
}

// Backend returns the handle of a backend, the same one for the same name.
func (p *Proxy) Backend(name string) *Backend {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.backends[name]
	if !ok {
		b = newBackend(p, name)
		p.backends[name] = b
	}
	return b
}

// RemoveBackend deletes the series of a backend that the configuration no
// longer has. What its last sessions still count is lost.
func (p *Proxy) RemoveBackend(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, ok := p.backends[name]
	if !ok {
		return
	}
	delete(p.backends, name)
	b.remove()
	for l := range maps.Values(p.listeners) {
		l.forget(b)
	}
	p.deleteSeries("backend", name)
}

// deleteSeries deletes every series whose label has the value.
func (p *Proxy) deleteSeries(label, value string) {
	match := prometheus.Labels{label: value}
	for _, vec := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		p.connections, p.open, p.rejected, p.acceptErrors, p.handshakes, p.handshakeFailures, p.clientAlerts, p.handshakeDuration,
		p.starttls, p.sessions, p.sessionDuration, p.messages, p.bytes, p.dialDuration, p.backendErrors,
		p.backendUp, p.healthChecks,
	} {
		vec.DeletePartialMatch(match)
	}
}
