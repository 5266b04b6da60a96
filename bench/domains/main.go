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
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/measure"
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
	starts  = flag.Int("starts", 5, "processes that are started, one after the other")
	rounds  = flag.Int("rounds", 11, "rounds of warm handshakes with each")
	each    = flag.Int("handshakes", 1000, "handshakes in a round")
	dir     = flag.String("dir", filepath.Join(os.TempDir(), "smtp-tlsproxy-bench-domains"), "where the folders are made and kept")
	serving = flag.String("serve", "", "for internal use: the directory to serve")
)

func main() {
	flag.Parse()
	run := bench
	if *serving != "" {
		run = serve
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "domains:", err)
		os.Exit(1)
	}
}

func bench() error {
	many, one := filepath.Join(*dir, fmt.Sprint(*folders)), filepath.Join(*dir, "1")
	if err := errors.Join(makeFolders(many, *folders), makeFolders(one, 1)); err != nil {
		return err
	}
	fmt.Printf("load before: %s\n", measure.Load())
	names := make([]string, min(*served, *folders))
	for i, n := range rand.Perm(*folders)[:len(names)] {
		names[i] = folderName(n)
	}
	// The first run reads the files from the disk as far as the system does not
	// have them in memory, which is not ours to measure; the others never do.
	disk, err := measureOnce(many, one, names, 0)
	if err != nil {
		return err
	}
	// Where a process lies in memory makes its handshakes cheaper or dearer, as
	// long as it lives, by as much as what is asked here: so several of them.
	var all figures
	for range *starts {
		f, err := measureOnce(many, one, names, *rounds)
		if err != nil {
			return err
		}
		all = all.with(f)
	}
	warm, more := measure.Median(all.warm), measure.Median(all.ratios)-1
	coldMore := measure.Median(all.cold) - warm
	fmt.Printf("server CPU per handshake: %v with a single folder; among %d names %v warm (%+.1f %%), %v cold (%v above warm), %v with the disk cold too\n",
		micro(measure.Median(all.single)), len(names), micro(warm), 100*more, micro(measure.Median(all.cold)), micro(coldMore), micro(disk.cold[0]))
	fmt.Printf("load after: %s\n", measure.Load())

	var passed []error
	limit := func(ok bool, format string, args ...any) {
		if !ok {
			passed = append(passed, fmt.Errorf(format, args...))
		}
	}
	limit(all.ready <= maxReady, "the first handshake answered after %v: the limit is %v", all.ready, maxReady)
	limit(all.pss <= maxPSS, "%.1f MB of memory: the limit is %.0f", measure.MB(all.pss), measure.MB(maxPSS))
	limit(more <= maxWarmMore, "a warm handshake costs %.1f %% more than with a single folder: the limit is %.0f %%", 100*more, 100*maxWarmMore)
	limit(coldMore <= float64(maxColdMore), "a cold name costs %v more than a warm one: the limit is %v", micro(coldMore), maxColdMore)
	return errors.Join(passed...)
}

// figures are what was measured; CPU times are in nanoseconds for a handshake.
type figures struct {
	ready                time.Duration // the longest
	pss                  int64         // the largest
	cold                 []float64     // by start
	warm, single, ratios []float64     // by round
}

func (f figures) with(g figures) figures {
	return figures{
		ready: max(f.ready, g.ready), pss: max(f.pss, g.pss), cold: slices.Concat(f.cold, g.cold),
		warm: slices.Concat(f.warm, g.warm), single: slices.Concat(f.single, g.single), ratios: slices.Concat(f.ratios, g.ratios),
	}
}

// measureOnce starts a server for each of two directories and drives them in
// turns, so that what disturbs one disturbs the other. The first is asked for
// names, the second for that of its only folder.
func measureOnce(many, one string, names []string, rounds int) (f figures, err error) {
	first := []string{folderName(0)}
	big, err := start(many)
	if err != nil {
		return f, err
	}
	defer big.stop()
	if _, err := big.handshakes(first, 2000); err != nil { // code and branch predictors, too, get warm
		return f, err
	}
	cold, err := big.handshakes(names, len(names))
	if err != nil {
		return f, err
	}
	after, err := big.stat()
	if err != nil {
		return f, err
	}
	f.ready, f.pss, f.cold = big.ready, after.PSS, []float64{float64(cold)}
	fmt.Printf("%d folders: first handshake answered %v after the start, %v of CPU, %.1f MB PSS; after %d random names %.1f MB, %d loaded\n",
		*folders, big.ready.Round(time.Millisecond), big.first.CPU.Round(time.Millisecond), measure.MB(big.first.PSS), len(names), measure.MB(after.PSS), after.Loaded)

	small, err := start(one)
	if err != nil {
		return f, err
	}
	defer small.stop()
	if _, err := small.handshakes(first, 2000); err != nil {
		return f, err
	}
	for range rounds {
		w, err := big.handshakes(names, *each)
		if err != nil {
			return f, err
		}
		s, err := small.handshakes(first, *each)
		if err != nil {
			return f, err
		}
		f.warm, f.single, f.ratios = append(f.warm, float64(w)), append(f.single, float64(s)), append(f.ratios, float64(w)/float64(s))
	}
	if rounds > 0 {
		fmt.Printf("warm %v, with a single folder %v: %+.1f %%\n", micro(measure.Median(f.warm)), micro(measure.Median(f.single)), 100*(measure.Median(f.ratios)-1))
	}
	return f, nil
}

func micro(ns float64) time.Duration { return time.Duration(ns).Round(time.Microsecond) }

func folderName(i int) string { return fmt.Sprintf("mail%06d.customer.example", i) }
