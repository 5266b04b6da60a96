// Command soak runs the built proxy for long, under all that it has to bear at
// once: clients of every kind with mail, renewals, reloads, backends that die
// and come back, floods and scrapes. At the end it looks whether each message
// that a client got 250 for was delivered once and whole, and none besides,
// whether memory, goroutines and file descriptors are back where they were,
// and whether each warning of the log is explained by what was done. It exits
// with 1 if not.
//
//	make soak SOAK=30m
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/measure"
)

var (
	binary  = flag.String("binary", "./smtp-tlsproxy", "the proxy")
	lasts   = flag.Duration("for", 3*time.Minute, "how long the load lasts")
	workers = flag.Int("clients", 6, "how many clients there are at once")
)

const (
	// warming is load without trouble, after which the base line is taken.
	warming = 15 * time.Second
	// settling bounds the wait for what is let go of.
	settling = time.Minute
)

// What may be more at the end than on the base line.
const (
	moreMemory      = 32 << 20 // Go keeps what its collector may use soon, some 64 MB here
	moreLive        = 4 << 20  // of which this much may be in use
	moreGoroutines  = 3
	moreDescriptors = 3
)

func main() {
	flag.Parse()
	if err := soak(); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func soak() (err error) {
	fmt.Printf("load before: %s\n", measure.Load())
	w, err := newWorld()
	if err != nil {
		return err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, w.proxy.stop())
		}
	}()
	if err := w.loaded(warming, false); err != nil {
		return err
	}
	base, err := w.settle(holding{pss: 1 << 40, live: 1 << 40, goroutines: 1 << 20, descriptors: 1 << 20})
	if err != nil {
		return err
	}
	fmt.Printf("base line:   %v\n", base)
	if err := w.loaded(*lasts/2, true); err != nil {
		return err
	}
	if err := w.loaded(*lasts-*lasts/2, true); err != nil {
		return err
	}
	end, err := w.settle(base)
	if err != nil {
		return err
	}
	fmt.Printf("at the end:  %v\n", end)
	w.compare(base, end)
	if err := w.check(); err != nil {
		return err
	}
	stopped = true
	if err := w.proxy.stop(); err != nil {
		w.violation("%v", err)
	}
	w.checkLog()
	w.report()
	if len(w.violations) > 0 {
		return fmt.Errorf("%d violations:\n%s", len(w.violations), strings.Join(w.violations, "\n"))
	}
	fmt.Println("no violation")
	return nil
}

// loaded loads the proxy for that long, and tells what it holds under load.
func (w *world) loaded(long time.Duration, withTrouble bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.load(ctx, withTrouble)
	}()
	select {
	case <-time.After(long - long/20):
	case <-done:
	}
	h, err := w.proxy.holds()
	if withTrouble && err == nil {
		fmt.Printf("under load:  %v\n", h)
	}
	<-done
	return err
}

// settle waits until the proxy holds no more than on the base line, or for as
// long as that may take.
func (w *world) settle(base holding) (h holding, err error) {
	for deadline := time.Now().Add(settling); ; time.Sleep(500 * time.Millisecond) {
		if err = w.proxy.collect(); err != nil {
			return h, err
		}
		if h, err = w.proxy.holds(); err != nil {
			return h, err
		}
		calm := h.open == 0 && w.sinks[0].open()+w.sinks[1].open() == 0
		if calm && h.within(base) || time.Now().After(deadline) {
			return h, nil
		}
	}
}

// within tells whether it is no more than on the base line.
func (h holding) within(base holding) bool {
	return h.pss <= base.pss+moreMemory && h.live <= base.live+moreLive &&
		h.goroutines <= base.goroutines+moreGoroutines && h.descriptors <= base.descriptors+moreDescriptors
}

// compare is what the wait came to.
func (w *world) compare(base, end holding) {
	if end.open > 0 || w.sinks[0].open()+w.sinks[1].open() > 0 {
		w.violation("%d connections from clients and %d to backends are still open", end.open, w.sinks[0].open()+w.sinks[1].open())
	}
	if !end.within(base) {
		w.violation("the proxy holds more than before: %v; before: %v", end, base)
	}
}

// check holds the ledger against itself and the metrics.
func (w *world) check() error {
	v := w.ledger.judge()
	for _, text := range v.violations {
		w.violation("%s", text)
	}
	sums, err := w.proxy.metrics()
	if err != nil {
		return err
	}
	if n := sums["smtp_tlsproxy_panics_total"]; n != 0 {
		w.violation("%v panics", n)
	}
	if n := int(sums["smtp_tlsproxy_messages_total"]); n < v.accepted || n > v.taken {
		w.violation("the proxy counts %d messages; the clients got 250 for %d, the backends took %d", n, v.accepted, v.taken)
	}
	fmt.Printf("messages:    %d begun, %d accepted and delivered once, %d abandoned by their clients, %d whose clients were not told (the backend was killed)\n",
		v.begun, v.accepted, v.abandoned, v.unknown)
	fmt.Printf("             %.1f MB of accepted messages; the proxy passed %.1f MB\n", measure.MB(w.bytes.Load()), sums["smtp_tlsproxy_bytes_total"]/(1<<20))
	return nil
}

// checkLog wants an explanation for each warning, and not too many of those
// that the soak has counted itself.
func (w *world) checkLog() {
	l := w.proxy.log
	for _, line := range l.unexplained {
		w.violation("a log line without an explanation: %s", line)
	}
	refused, broken := l.explained["broken configuration"], w.counts["reload"]["broken"]
	if refused < broken || refused > 2*broken {
		w.violation("%d configurations were refused, %d were broken", refused, broken)
	}
	fmt.Printf("log:         %d lines\n", l.lines)
}

// report prints what was counted.
func (w *world) report() {
	l := w.proxy.log
	w.counts["log"] = l.explained
	for _, part := range []struct{ kind, title string }{
		{"way", "sessions"}, {"act", "what their clients did"}, {"resumed", "of these resumed"}, {"trouble", "trouble"}, {"reload", "reloads"},
		{"failure", "clients of a killed backend, which got"}, {"log", "warnings and errors in the log"},
	} {
		sum := 0
		for _, n := range w.counts[part.kind] {
			sum += n
		}
		fmt.Printf("%-60s %9d\n", part.title, sum)
		for _, name := range sorted(w.counts[part.kind]) {
			fmt.Printf("  %-58s %9d\n", name, w.counts[part.kind][name])
		}
	}
	fmt.Printf("load after: %s\n", measure.Load())
}

func sorted(counts map[string]int) []string {
	var names []string
	for name := range counts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
