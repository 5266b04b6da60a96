// Command domains measures what a directory of many certificate folders costs:
// until it is ready, in memory, and for each handshake. It makes the folders
// itself, runs the server side of package sni in processes of its own, so that
// the client's share is not counted, and exits with 1 if a limit is passed.
//
//	go run ./bench/domains -folders 100000
//
// The directory of -dir is kept for the next run; making a hundred thousand
// folders takes a minute.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The limits that a release must keep.
const (
	maxReady    = time.Second
	maxPSS      = 100 << 20 // bytes
	maxWarmMore = 0.05      // CPU of a warm handshake over that with a single folder
	maxColdMore = 300 * time.Microsecond
)

var (
	folders = flag.Int("folders", 100_000, "folders in the directory")
	served  = flag.Int("served", 1000, "names asked for, at random")
	cache   = flag.Int("cache", 4096, "sni.Options.Cache")
	rounds  = flag.Int("rounds", 41, "rounds of warm handshakes")
	each    = flag.Int("handshakes", 1000, "handshakes in a round")
	dir     = flag.String("dir", filepath.Join(os.TempDir(), "smtp-tlsproxy-bench-domains"), "where the folders are made and kept")
	serving = flag.String("serve", "", "for internal use: the directory to serve")
)

func main() {
	flag.Parse()
	run := measure
	if *serving != "" {
		run = serve
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "domains:", err)
		os.Exit(1)
	}
}

func measure() error {
	many, one := filepath.Join(*dir, fmt.Sprint(*folders)), filepath.Join(*dir, "1")
	if err := errors.Join(makeFolders(many, *folders), makeFolders(one, 1)); err != nil {
		return err
	}
	fmt.Printf("load before: %s", loadAverage())
	names := make([]string, min(*served, *folders))
	for i, n := range rand.Perm(*folders)[:len(names)] {
		names[i] = folderName(n)
	}
	first := []string{folderName(0)}

	// The first server reads the files from the disk as far as the system does
	// not have them in memory, what is not ours to measure; the second never.
	var big *process
	var cold []time.Duration
	for range 2 {
		var err error
		if big, err = start(many); err != nil {
			return err
		}
		defer big.stop()
		fmt.Printf("%d folders: ready in %v, %v of CPU, %.1f MB PSS\n", *folders, big.ready.Ready.Round(time.Millisecond), big.ready.CPU.Round(time.Millisecond), mb(big.ready.PSS))
		if _, err := big.handshakes(first, 2000); err != nil { // code and branch predictors, too, get warm
			return err
		}
		each, err := big.handshakes(names, len(names))
		if err != nil {
			return err
		}
		cold = append(cold, each)
	}
	after, err := big.stat()
	if err != nil {
		return err
	}
	fmt.Printf("after %d random names: %.1f MB PSS, %d loaded\n", len(names), mb(after.PSS), after.Loaded)

	small, err := start(one)
	if err != nil {
		return err
	}
	defer small.stop()
	fmt.Printf("1 folder: ready in %v, %.1f MB PSS\n", small.ready.Ready.Round(time.Millisecond), mb(small.ready.PSS))
	if _, err := small.handshakes(first, 2000); err != nil {
		return err
	}

	var warm, single, ratios []float64
	for range *rounds { // in turns, so that what disturbs one disturbs the other
		w, err := big.handshakes(names, *each)
		if err != nil {
			return err
		}
		s, err := small.handshakes(first, *each)
		if err != nil {
			return err
		}
		warm, single, ratios = append(warm, float64(w)), append(single, float64(s)), append(ratios, float64(w)/float64(s))
	}
	more := median(ratios) - 1
	coldMore := cold[1] - time.Duration(median(warm))
	fmt.Printf("server CPU per handshake: %v with a single folder; among %d names %v warm (%+.1f %%), %v cold (%v above warm), %v with the disk cold too\n",
		micro(median(single)), len(names), micro(median(warm)), 100*more, micro(float64(cold[1])), micro(float64(coldMore)), micro(float64(cold[0])))
	fmt.Printf("load after: %s", loadAverage())

	var passed []error
	limit := func(ok bool, format string, args ...any) {
		if !ok {
			passed = append(passed, fmt.Errorf(format, args...))
		}
	}
	limit(big.ready.Ready <= maxReady, "ready in %v: the limit is %v", big.ready.Ready, maxReady)
	limit(after.PSS <= maxPSS, "%.1f MB of memory: the limit is %.0f", mb(after.PSS), mb(maxPSS))
	limit(more <= maxWarmMore, "a warm handshake costs %.1f %% more than with a single folder: the limit is %.0f %%", 100*more, 100*maxWarmMore)
	limit(coldMore <= maxColdMore, "a cold name costs %v more than a warm one: the limit is %v", coldMore, maxColdMore)
	return errors.Join(passed...)
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func micro(ns float64) time.Duration { return time.Duration(ns).Round(time.Microsecond) }

func median[T cmp.Ordered](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

func folderName(i int) string { return fmt.Sprintf("mail%06d.customer.example", i) }

func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown\n"
	}
	return strings.Join(strings.Fields(string(data))[:3], " ") + "\n"
}
