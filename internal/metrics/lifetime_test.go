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
	mta.AddressUp("127.0.0.1:10025")
	mta.CheckSucceeded()
	if got := value(t, reg, "backend_up", "backend", "mta"); got != -1 {
		t.Error("an address brought a removed backend back")
	}
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

func TestAddressesComeAndGo(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	mta := metrics.NewProxy(reg).Backend("mta")
	for address, want := range map[string]float64{"127.0.0.1:25": 1, "[::1]:25": 0} {
		mta.AddressDown(address)
		if want == 1 {
			mta.AddressUp(address)
		}
		if got := value(t, reg, "backend_up", "address", address); got != want {
			t.Errorf("%s is %v, want %v", address, got, want)
		}
	}
	mta.RemoveAddress("127.0.0.1:25")
	mta.RemoveAddress("192.0.2.1:25")
	if got := value(t, reg, "backend_up", "address", "127.0.0.1:25"); got != -1 {
		t.Errorf("an address that is gone is %v", got)
	}
	mta.CheckSucceeded()
	mta.CheckFailed()
	mta.CheckFailed()
	for result, want := range map[string]float64{"success": 1, "error": 2} {
		if got := value(t, reg, "backend_health_checks_total", "result", result); got != want {
			t.Errorf("%v checks are %s, want %v", got, result, want)
		}
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
				b.AddressUp("127.0.0.1:25")
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
	if got := value(t, reg, "backend_up", "backend", "mta"); got != -1 {
		t.Error("an address of a removed backend is left")
	}
}
