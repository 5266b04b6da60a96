package metrics_test

import (
	"crypto/tls"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

func TestRemovedSeriesStayAway(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	p := metrics.NewProxy(reg)
	empty := seriesCount(t, reg)
	mta := p.Backend("mta")
	l := p.Listener("submission", mta)

	p.RemoveBackend("mta")
	l.SessionDone(mta, metrics.SessionOK, time.Second)
	mta.Error(metrics.BackendDNS)
	if got := value(t, reg, "sessions_total", "backend", "mta"); got != -1 {
		t.Error("a session's end brought a removed backend back")
	}
	l.HandshakeDone(modern, 0)
	p.RemoveListener("submission")
	l.HandshakeDone(modern, 0)
	l.HandshakeDone(tls.ConnectionState{}, 0)
	l.SessionDone(nil, metrics.SessionOK, time.Second)
	l.SessionDone(p.Backend("late"), metrics.SessionOK, time.Second)
	p.RemoveBackend("late")
	p.RemoveBackend("never made")
	p.RemoveListener("never made")
	if got := seriesCount(t, reg); got != empty {
		t.Errorf("%d series are left, want %d", got, empty)
	}

	if p.Listener("submission") == l {
		t.Error("a listener that came back has the handle of the one removed")
	}
	if got := value(t, reg, "connections_total", "listener", "submission"); got != 0 {
		t.Errorf("a listener that came back starts at %v", got)
	}
}

func TestHandlesAreSharedBetweenGoroutines(t *testing.T) {
	reg, p, _ := all(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				l, b := p.Listener("submission"), p.Backend("mta")
				l.HandshakeDone(modern, time.Millisecond)
				l.SessionDone(b, metrics.SessionOK, time.Second)
				p.AddDomain(fmt.Sprintf("d%d.example", i%3))
				p.SNIRequest("d0.example")
				p.RemoveDomain("d0.example")
				p.RemoveBackend("mta")
				p.RemoveListener("submission")
			}
		})
	}
	wg.Wait()
	p.RemoveBackend("mta")
	if got := value(t, reg, "sessions_total", "backend", "mta"); got != -1 {
		t.Error("series of a removed backend are left")
	}
}
