// Command floods measures what floods do to a good client: it runs the built
// proxy as a process, floods it from another one, and meanwhile does a handshake
// again and again. It prints a line for each flood, and exits with 1 if a good
// client fails or waits too long.
//
//	make build && go run ./bench/floods -binary ./smtp-tlsproxy
//
// Proxy, flood and good client share this machine. The flood has the lowest
// claim on its processors (nice), as what it costs to make is not ours to
// measure, and so is bounded in what it sends.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/measure"
)

// The limits that a release must keep.
const (
	// maxP99 is what a good client waits, from its connection to the end of its
	// handshake, in 99 of 100 cases.
	maxP99 = 100 * time.Millisecond
	// maxIdle is the memory of the proxy for a session that only waits, in bytes.
	maxIdle = 64 << 10
)

var (
	binary   = flag.String("binary", "./smtp-tlsproxy", "the proxy")
	lasts    = flag.Duration("for", 15*time.Second, "how long each flood lasts")
	only     = flag.String("only", "", "the flood to measure; all")
	flooding = flag.String("flood", "", "for internal use: the flood to make")
	targets  = flag.String("targets", "", "for internal use: the addresses to flood")
)

func main() {
	flag.Parse()
	run := bench
	if *flooding != "" {
		run = makeFlood
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "floods:", err)
		os.Exit(1)
	}
}

func bench() error {
	fmt.Printf("load before: %s\n", measure.Load())
	fmt.Printf("%-12s %8s %9s %9s %9s  %9s %6s  %9s %9s\n", "flood", "clients", "p50", "p99", "max", "unloaded", "ratio", "PSS", "unloaded")
	var passed []error
	for _, f := range floods {
		if *only != "" && *only != f.name {
			continue
		}
		r, err := f.measure()
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		fmt.Printf("%-12s %8d %9v %9v %9v  %9v %6.1f  %6.1f MB %6.1f MB\n", f.name, r.clients, micro(r.loaded.at(50)), micro(r.loaded.at(99)), micro(r.loaded.at(100)),
			micro(r.unloaded.at(99)), float64(r.loaded.at(99))/float64(r.unloaded.at(99)), measure.MB(r.pssLoaded), measure.MB(r.pssUnloaded))
		if each := (r.pssLoaded - r.pssUnloaded) / int64(f.clients); f.idle {
			fmt.Printf("%-12s %8.1f kB of memory each\n", f.name, float64(each)/1024)
			if each > maxIdle {
				passed = append(passed, fmt.Errorf("%s: an idle one takes %d bytes: the limit is %d", f.name, each, maxIdle))
			}
		}
		if p99 := r.loaded.at(99); p99 > maxP99 {
			passed = append(passed, fmt.Errorf("%s: 99 of 100 good clients wait up to %v: the limit is %v", f.name, micro(p99), maxP99))
		}
	}
	fmt.Printf("load after: %s\n", measure.Load())
	return errors.Join(passed...)
}

// result is what was measured of one flood.
type result struct {
	clients                int // of the flood
	loaded, unloaded       times
	pssLoaded, pssUnloaded int64 // of the proxy, at the end of the flood and before it
}

// measure floods a proxy of its own.
func (f flood) measure() (r result, err error) {
	p, err := startProxy(f)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if _, err = p.goodClients(time.Second); err != nil { // code and caches get warm
		return r, err
	}
	if r.unloaded, err = p.goodClients(*lasts / 2); err != nil {
		return r, fmt.Errorf("without a flood: %w", err)
	}
	r.pssUnloaded = measure.PSS(p.pid())
	making, err := f.start(p)
	if err != nil {
		return r, err
	}
	defer making.kill()
	if r.loaded, err = p.goodClients(*lasts); err != nil {
		return r, err
	}
	r.pssLoaded = measure.PSS(p.pid())
	r.clients, err = making.stop()
	return r, err
}

// times are those of the good clients.
type times []time.Duration

// at is the time that so many of a hundred did not pass.
func (t times) at(percent int) time.Duration {
	return measure.Percentile(t, percent)
}

func micro(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
