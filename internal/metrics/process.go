package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build says which program this is.
type Build struct {
	Version  string // of the release
	Revision string // of the source, the commit's hash
}

// Process counts what becomes of the program itself. Make one with
// [NewProcess].
type Process struct {
	reloads       set[result]
	successful    prometheus.Gauge
	lastSuccess   prometheus.Gauge
	draining      prometheus.Gauge
	drainDeadline prometheus.Gauge
}

// NewProcess registers the families of the program with reg, and those that
// client_golang has for the Go runtime (go_…) and for the process as the
// operating system sees it (process_…).
func NewProcess(reg prometheus.Registerer, build Build) *Process {
	r := registry{reg}
	r.gauges("build_info", "Always 1; the labels say which program this is.",
		"version", "revision", "goversion", "goos", "goarch").
		WithLabelValues(build.Version, build.Revision, runtime.Version(), runtime.GOOS, runtime.GOARCH).Set(1)
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	reloads := r.counters("config_reloads_total",
		"Times that the configuration was read, the start included.", "result")
	return &Process{
		reloads: newSet(reloads, results),
		successful: r.gauges("config_last_reload_successful",
			"1 if the last reading of the configuration succeeded, 0 if not.").WithLabelValues(),
		lastSuccess: r.gauges("config_last_reload_success_timestamp_seconds",
			"When the configuration was last read successfully, in seconds since 1970.").WithLabelValues(),
		draining: r.gauges("draining",
			"1 while the program shuts down and lets open transactions finish.").WithLabelValues(),
		drainDeadline: r.gauges("drain_deadline_timestamp_seconds",
			"When the sessions left are cut, in seconds since 1970; 0 while the program does not shut down.").WithLabelValues(),
	}
}

// ConfigLoaded counts a configuration that was read and is in force.
func (p *Process) ConfigLoaded() {
	p.reloads.inc(resultSuccess)
	p.successful.Set(1)
	p.lastSuccess.SetToCurrentTime()
}

// ConfigFailed counts a configuration that was refused; the one before it
// stays in force.
func (p *Process) ConfigFailed() {
	p.reloads.inc(resultError)
	p.successful.Set(0)
}

// DrainBegan tells that the program shuts down, and when it cuts what is left.
func (p *Process) DrainBegan(deadline time.Time) {
	p.drainDeadline.Set(float64(deadline.UnixMilli()) / 1000)
	p.draining.Set(1)
}
