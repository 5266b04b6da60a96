package metrics_test

import (
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// modern is the state of the handshake that most clients end up with.
var modern = tls.ConnectionState{
	Version:     tls.VersionTLS13,
	CipherSuite: tls.TLS_AES_128_GCM_SHA256,
	CurveID:     tls.X25519MLKEM768,
}

// all registers everything, and has each family show at least one series.
func all(t *testing.T) (*prometheus.Registry, *metrics.Proxy, *metrics.Certificates) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	p := metrics.NewProxy(reg)
	mta := p.Backend("mta")
	mta.AddressUp("127.0.0.1:10025")
	p.Listener("submission", mta)
	c := metrics.NewCertificates(reg)
	c.Follow(func() metrics.CertificateState { return state("ecdsa") })
	metrics.NewProcess(reg, metrics.Build{Version: "1.2.3", Revision: "0123abc"})
	return reg, p, c
}

// state is a directory with a certificate of each key type, and a broken one.
func state(keyTypes ...string) metrics.CertificateState {
	return metrics.CertificateState{
		Indexed: 2, Loaded: 1, Failed: slices.Values([]string{"broken.example"}),
		Expiries: func(yield func(metrics.Expiry) bool) {
			for _, kind := range keyTypes {
				if !yield(metrics.Expiry{Domain: "mail.example.com", KeyType: kind, NotAfter: time.Unix(2e9, 0)}) {
					return
				}
			}
		},
	}
}

// value is the value of the one series that has the labels, given as pairs.
func value(t *testing.T, reg prometheus.Gatherer, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
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
			if h := m.GetHistogram(); h != nil {
				return float64(h.GetSampleCount())
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}

func seriesCount(t *testing.T, reg prometheus.Gatherer) int {
	t.Helper()
	n, err := testutil.GatherAndCount(reg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFamiliesAreClean(t *testing.T) {
	reg, _, _ := all(t)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestSeriesStartAtZero(t *testing.T) {
	reg, _, _ := all(t)
	for _, series := range [][]string{
		{"connections_total", "listener", "submission"}, {"connections_open", "listener", "submission"},
		{"accept_errors_total", "listener", "submission"}, {"connections_rejected_total", "reason", "per_client"},
		{"connections_limit"}, {"handshakes_waiting"},
		{"tls_handshakes_total", "listener", "submission", "result", "failed", "version", "none", "resumed", "false"},
		{"tls_handshake_failures_total", "reason", "unknown_sni"}, {"tls_client_alerts_total", "alert", "certificate_expired"},
		{"tls_handshake_duration_seconds", "listener", "submission"}, {"sni_requests_total", "domain", "none"},
		{"sni_requests_total", "domain", "other"}, {"starttls_total", "outcome", "injection"},
		{"sessions_total", "backend", "none", "outcome", "pretls"},
		{"sessions_total", "backend", "mta", "outcome", "ok"}, {"session_duration_seconds", "listener", "submission"},
		{"messages_total", "tls", "true"}, {"messages_total", "tls", "false"},
		{"bytes_total", "direction", "to_backend"}, {"bytes_total", "direction", "to_client"},
		{"backend_dial_duration_seconds", "backend", "mta"}, {"backend_errors_total", "reason", "greeting_timeout"},
		{"panics_total"}, {"certificate_reloads_total", "result", "error"},
		{"config_reloads_total", "result", "success"}, {"config_reloads_total", "result", "error"},
		{"config_last_reload_successful"}, {"draining"}, {"drain_deadline_timestamp_seconds"},
	} {
		if got := value(t, reg, series[0], series[1:]...); got != 0 {
			t.Errorf("%v starts at %v, want 0 (-1 is: no such series)", series, got)
		}
	}
}

func TestEachMethodCountsItsSeries(t *testing.T) {
	reg, p, _ := all(t)
	mta := p.Backend("mta")
	l := p.Listener("submission")
	l.ConnectionOpened()
	l.ConnectionOpened()
	l.ConnectionClosed()
	l.AcceptError()
	l.ConnectionRejected(metrics.RejectedHandshakeRate)
	p.ConnectionsLimit(500)
	p.HandshakeWaits()
	p.HandshakeWaits()
	p.HandshakeGoesOn()
	l.HandshakeDone(modern, 20*time.Millisecond)
	l.HandshakeDone(tls.ConnectionState{Version: tls.VersionTLS12, DidResume: true,
		CipherSuite: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, time.Millisecond)
	l.HandshakeFailed(metrics.HandshakeALPN)
	l.ClientAlert(48)
	l.ClientAlert(0) // close_notify, which is none
	l.ClientAlert(200)
	l.STARTTLS(metrics.STARTTLSUpgraded)
	l.MessageTLS()
	l.MessageInClear()
	l.BytesToBackend(700)
	l.BytesToClient(30)
	l.SessionDone(mta, metrics.SessionOK, time.Minute)
	l.SessionDone(nil, metrics.SessionPreTLS, time.Second)
	mta.Dialed(time.Millisecond)
	mta.Error(metrics.BackendDNS)
	p.Panic()

	for _, want := range []struct {
		value  float64
		series []string
	}{
		{2, []string{"connections_total"}},
		{1, []string{"connections_open"}},
		{1, []string{"accept_errors_total"}},
		{1, []string{"connections_rejected_total", "reason", "handshake_rate"}},
		{500, []string{"connections_limit"}},
		{1, []string{"handshakes_waiting"}},
		{1, []string{"tls_handshakes_total", "result", "ok", "version", "TLSv1.3",
			"cipher", "TLS_AES_128_GCM_SHA256", "group", "X25519MLKEM768", "resumed", "false"}},
		{1, []string{"tls_handshakes_total", "result", "ok", "version", "TLSv1.2",
			"cipher", "ECDHE-RSA-AES128-GCM-SHA256", "group", "none", "resumed", "true"}},
		{1, []string{"tls_handshakes_total", "result", "failed"}},
		{2, []string{"tls_handshake_duration_seconds"}},
		{1, []string{"tls_handshake_failures_total", "reason", "alpn"}},
		{1, []string{"tls_client_alerts_total", "alert", "unknown_ca"}},
		{2, []string{"tls_client_alerts_total", "alert", "other"}},
		{1, []string{"starttls_total", "outcome", "upgraded"}},
		{1, []string{"messages_total", "tls", "true"}},
		{1, []string{"messages_total", "tls", "false"}},
		{700, []string{"bytes_total", "direction", "to_backend"}},
		{30, []string{"bytes_total", "direction", "to_client"}},
		{1, []string{"sessions_total", "backend", "mta", "outcome", "ok"}},
		{1, []string{"sessions_total", "backend", "none", "outcome", "pretls"}},
		{2, []string{"session_duration_seconds"}},
		{1, []string{"backend_dial_duration_seconds", "backend", "mta"}},
		{1, []string{"backend_errors_total", "reason", "dns"}},
		{1, []string{"panics_total"}},
	} {
		if got := value(t, reg, want.series[0], want.series[1:]...); got != want.value {
			t.Errorf("%v = %v, want %v", want.series, got, want.value)
		}
	}
}

// Requirement 85: the number of series is constant under 100,000 random server
// names, and under anything else that could come from a client.
func TestR85_SeriesCountStaysConstant(t *testing.T) {
	reg, p, _ := all(t)
	p.AddDomain("mail.example.com")
	l, mta := p.Listener("submission"), p.Backend("mta")
	l.HandshakeDone(tls.ConnectionState{Version: 1, CipherSuite: 1, CurveID: 1}, 0)
	before := seriesCount(t, reg)

	const rounds = 100_000
	for i := range rounds {
		random := fmt.Sprintf("%s.example.com\xff", rand.Text())
		p.SNIRequest(random)
		l.HandshakeFailed(metrics.HandshakeFailure(random))
		l.ClientAlert(tlsopts.Alert(i))
		l.STARTTLS(metrics.STARTTLSOutcome(random))
		l.ConnectionRejected(metrics.Rejection(random))
		l.SessionDone(mta, metrics.SessionOutcome(random), 0)
		mta.Error(metrics.BackendError(random))
		l.HandshakeDone(tls.ConnectionState{Version: 1, CipherSuite: 1, CurveID: tls.CurveID(1 + i%20)}, 0)
	}
	if after := seriesCount(t, reg); after != before {
		t.Errorf("%d series became %d", before, after)
	}
	if got := value(t, reg, "sni_requests_total", "domain", metrics.DomainOther); got != rounds {
		t.Errorf("other = %v, want %d", got, rounds)
	}
}

func TestDomainsFollowTheFolders(t *testing.T) {
	reg, p, _ := all(t)
	p.AddDomain("a.example")
	p.AddDomain("b.example")
	p.SNIRequest("a.example")
	p.SNIRequest("c.example")
	p.SNIRequest(metrics.DomainNone)
	p.AddDomain("a.example") // renewed
	p.AddDomain("c.example")
	p.RemoveDomain("b.example")
	p.RemoveDomain(metrics.DomainOther)
	p.SNIRequest("a.example")
	p.SNIRequest("b.example")
	for domain, want := range map[string]float64{"a.example": 2, "b.example": -1, "c.example": 0, "other": 2, "none": 1} {
		if got := value(t, reg, "sni_requests_total", "domain", domain); got != want {
			t.Errorf("%s = %v, want %v", domain, got, want)
		}
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	_, p, _ := all(t)
	p.AddDomain("mail.example.com")
	l, mta := p.Listener("submission"), p.Backend("mta")
	for name, count := range map[string]func(){
		"connection":        func() { l.ConnectionOpened(); l.ConnectionClosed() },
		"rejection":         func() { l.ConnectionRejected(metrics.RejectedMaxConnections) },
		"waiting":           func() { p.HandshakeWaits(); p.HandshakeGoesOn() },
		"bytes":             func() { l.BytesToBackend(4096); l.BytesToClient(4096) },
		"message":           func() { l.MessageTLS(); l.MessageInClear() },
		"handshake failure": func() { l.HandshakeFailed(metrics.HandshakeEOF) },
		"alert":             func() { l.ClientAlert(48) },
		"STARTTLS":          func() { l.STARTTLS(metrics.STARTTLSUpgraded) },
		"server name":       func() { p.SNIRequest("mail.example.com"); p.SNIRequest("unknown.example") },
		"backend error":     func() { mta.Error(metrics.BackendTimeout) },
	} {
		if n := testing.AllocsPerRun(100, count); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
	// A native histogram boxes the number of its bucket.
	for name, count := range map[string]func(){
		"handshake": func() { l.HandshakeDone(modern, 20*time.Millisecond) },
		"session":   func() { l.SessionDone(mta, metrics.SessionOK, time.Minute) },
		"dial":      func() { mta.Dialed(time.Millisecond) },
	} {
		if n := testing.AllocsPerRun(100, count); n > 1 {
			t.Errorf("%s: %v allocations, want at most 1", name, n)
		}
	}
}
