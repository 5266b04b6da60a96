package metrics_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

func TestCertificates(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	c := metrics.NewCertificates(reg)
	soon, late := time.Unix(2e9, 0), time.Unix(2e9+86400, 0)
	c.Indexed(3)
	c.Loaded("a.example", leaf(x509.RSA, late), leaf(x509.ECDSA, soon))
	c.Loaded("b.example", leaf(x509.Ed25519, late), leaf(x509.Ed25519, soon))
	c.Loaded("c.example", leaf(x509.DSA, late))
	c.Failed()
	c.Loaded("a.example", leaf(x509.ECDSA, late))
	c.Removed("c.example")
	c.Removed("never.example")

	for _, want := range []struct {
		value  float64
		series []string
	}{
		{3, []string{"certificates_indexed"}},
		{2, []string{"certificates_loaded"}},
		{-1, []string{"certificate_not_after_timestamp_seconds", "domain", "a.example", "key_type", "rsa"}},
		{2e9 + 86400, []string{"certificate_not_after_timestamp_seconds", "domain", "a.example", "key_type", "ecdsa"}},
		{2e9, []string{"certificate_not_after_timestamp_seconds", "domain", "b.example", "key_type", "ed25519"}},
		{-1, []string{"certificate_not_after_timestamp_seconds", "domain", "c.example"}},
		{4, []string{"certificate_reloads_total", "result", "success"}},
		{1, []string{"certificate_reloads_total", "result", "error"}},
	} {
		if got := value(t, reg, want.series[0], want.series[1:]...); got != want.value {
			t.Errorf("%v = %v, want %v", want.series, got, want.value)
		}
	}
	if got := value(t, reg, "certificate_last_reload_success_timestamp_seconds"); got < 1.7e9 {
		t.Errorf("last success = %v, want now", got)
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
}
