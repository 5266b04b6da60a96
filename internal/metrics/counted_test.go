package metrics_test

import (
	"cmp"
	"crypto/tls"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

func counted(t *testing.T, p *metrics.Proxy) metrics.Counted {
	t.Helper()
	now, err := p.Counted()
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(now.Negotiated, func(a, b metrics.Negotiated) int {
		return cmp.Or(cmp.Compare(a.Listener, b.Listener), cmp.Compare(a.Version, b.Version))
	})
	return now
}

// TestCounted: what is read is what Prometheus scrapes.
func TestCounted(t *testing.T) {
	p := metrics.NewProxy(prometheus.NewPedanticRegistry())
	submissions, mx := p.Listener("submissions"), p.Listener("mx")
	submissions.ConnectionOpened()
	submissions.ConnectionOpened()
	submissions.ConnectionClosed()
	submissions.HandshakeDone(modern, time.Second)
	submissions.HandshakeDone(modern, time.Second)
	submissions.HandshakeFailed(metrics.HandshakeEOF)
	resumed := tls.ConnectionState{Version: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, DidResume: true}
	mx.HandshakeDone(resumed, time.Second)
	now := counted(t, p)
	if want := map[string]metrics.ListenerCount{"submissions": {Open: 1, Done: 2, Failed: 1}, "mx": {Done: 1}}; !reflect.DeepEqual(now.Listeners, want) {
		t.Errorf("listeners %+v, want %+v", now.Listeners, want)
	}
	want := []metrics.Negotiated{
		{"mx", "TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", "none", true, 1},
		{"submissions", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519MLKEM768", false, 2},
	}
	if !slices.Equal(now.Negotiated, want) {
		t.Errorf("negotiated %+v, want %+v", now.Negotiated, want)
	}
	p.RemoveListener("mx")
	if now := counted(t, p); len(now.Listeners) != 1 || len(now.Negotiated) != 1 {
		t.Errorf("of a listener that is gone: %+v", now)
	}
}

// TestRecent: rates are of the last minute, whatever was before.
func TestRecent(t *testing.T) {
	begin := time.Unix(2e9, 0)
	after := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
	one := func(done, failed int) metrics.Counted {
		return metrics.Counted{Listeners: map[string]metrics.ListenerCount{"mx": {Done: uint64(done), Failed: uint64(failed)}}}
	}
	var r metrics.Recent
	if lasted, grown := r.Since(begin, one(7, 0)); lasted != 0 || grown["mx"].Done != 0 {
		t.Errorf("without a sample: %v %v", lasted, grown)
	}
	r.Sample(begin, metrics.Counted{})
	sampled := 0
	for _, step := range []struct {
		at, done, failed int
		lasted           time.Duration
		grown            metrics.ListenerCount
	}{
		{2, 4, 1, 2 * time.Second, metrics.ListenerCount{Done: 4, Failed: 1}},
		{60, 120, 12, time.Minute, metrics.ListenerCount{Done: 120, Failed: 12}},
		{61, 122, 12, 56 * time.Second, metrics.ListenerCount{Done: 112, Failed: 7}}, // since the second sample
		{302, 604, 12, 57 * time.Second, metrics.ListenerCount{Done: 114}},
		{303, 3, 1, 58 * time.Second, metrics.ListenerCount{Done: 3, Failed: 1}}, // another listener of that name
	} {
		for ; sampled+5 < step.at; sampled += 5 { // two handshakes each second, and a failure in each of the first twelve
			r.Sample(after(sampled+5), one(2*(sampled+5), min(12, sampled+5)))
		}
		lasted, grown := r.Since(after(step.at), one(step.done, step.failed))
		if lasted != step.lasted || grown["mx"] != step.grown {
			t.Errorf("after %d seconds: %v %+v, want %v %+v", step.at, lasted, grown["mx"], step.lasted, step.grown)
		}
	}
	if lasted, _ := r.Since(after(1000), one(0, 0)); lasted != 0 {
		t.Errorf("where no sample is of the last minute: %v", lasted)
	}
}
