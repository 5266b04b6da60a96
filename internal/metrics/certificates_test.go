package metrics_test

import (
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

func TestCertificates(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	c := metrics.NewCertificates(reg)
	if got := value(t, reg, "certificates_indexed"); got != 0 {
		t.Errorf("before there is a directory: %v folders", got)
	}
	state := metrics.CertificateState{
		Indexed: 3, Loaded: 2,
		Expiries: slices.Values([]metrics.Expiry{
			{Domain: "a.example", KeyType: "rsa", NotAfter: time.Unix(2e9, 0)},
			{Domain: "a.example", KeyType: "ecdsa", NotAfter: time.Unix(2e9+86400, 0)},
			{Domain: "b.example", KeyType: "ed25519", NotAfter: time.Unix(2e9, 0)},
		}),
		Failed: slices.Values([]string{"c.example"}),
	}
	c.Follow(func() metrics.CertificateState { return state })
	c.Loaded()
	c.Loaded()
	c.Failed()
	for _, want := range []struct {
		value  float64
		series []string
	}{
		{3, []string{"certificates_indexed"}},
		{2, []string{"certificates_loaded"}},
		{2e9, []string{"certificate_not_after_timestamp_seconds", "domain", "a.example", "key_type", "rsa"}},
		{2e9 + 86400, []string{"certificate_not_after_timestamp_seconds", "domain", "a.example", "key_type", "ecdsa"}},
		{2e9, []string{"certificate_not_after_timestamp_seconds", "domain", "b.example", "key_type", "ed25519"}},
		{-1, []string{"certificate_not_after_timestamp_seconds", "domain", "c.example"}},
		{1, []string{"certificate_load_failed", "domain", "c.example"}},
		{-1, []string{"certificate_load_failed", "domain", "a.example"}},
		{2, []string{"certificate_reloads_total", "result", "success"}},
		{1, []string{"certificate_reloads_total", "result", "error"}},
	} {
		if got := value(t, reg, want.series[0], want.series[1:]...); got != want.value {
			t.Errorf("%v = %v, want %v", want.series, got, want.value)
		}
	}
	if got := value(t, reg, "certificate_last_reload_success_timestamp_seconds"); got < 1.7e9 {
		t.Errorf("last success = %v, want now", got)
	}
	state.Failed = nil
	if got := value(t, reg, "certificate_load_failed", "domain", "c.example"); got != -1 {
		t.Error("the folder that was mended still has its series")
	}
}

func TestProcess(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	p := metrics.NewProcess(reg, metrics.Build{Version: "1.2.3", Revision: "0123abc"})
	if got := value(t, reg, "build_info", "version", "1.2.3", "revision", "0123abc"); got != 1 {
		t.Errorf("build_info = %v, want 1", got)
	}
	p.ConfigLoaded()
	loaded := value(t, reg, "config_last_reload_success_timestamp_seconds")
	if got := value(t, reg, "config_last_reload_successful"); got != 1 || loaded < 1.7e9 {
		t.Errorf("after success: successful = %v at %v", got, loaded)
	}
	p.ConfigFailed()
	if got := value(t, reg, "config_last_reload_successful"); got != 0 {
		t.Errorf("after an error: successful = %v", got)
	}
	if got := value(t, reg, "config_last_reload_success_timestamp_seconds"); got != loaded {
		t.Errorf("an error moved the time of the last success")
	}
	for _, r := range []string{"success", "error"} {
		if got := value(t, reg, "config_reloads_total", "result", r); got != 1 {
			t.Errorf("reloads %s = %v, want 1", r, got)
		}
	}
	p.DrainBegan(time.Unix(2e9, 5e8))
	if got := value(t, reg, "drain_deadline_timestamp_seconds"); got != 2e9+.5 || value(t, reg, "draining") != 1 {
		t.Errorf("draining until %v, want 2000000000.5", got)
	}
}
