// Command peers measures the proxy beside the systems that people would use in
// its place: nginx, HAProxy, Hitch and stunnel. Each runs on loopback as a
// process of its own with equal settings, between a load generator and a backend
// that reads the PROXY header, and they take turns, so that what disturbs one
// disturbs the others. What counts is the CPU time and the memory of the server,
// which hold on a busy machine; the table gives the median of the rounds, their
// spread, and the ratio to the best peer.
//
//	make bench
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

var (
	binary   = flag.String("binary", "./smtp-tlsproxy", "the proxy")
	rounds   = flag.Int("rounds", 9, "rounds in which the servers take turns")
	sessions = flag.Int("sessions", 2000, "sessions in each round")
	idle     = flag.String("idle", "100,1000,5000", "idle sessions that are opened, step by step; none: not measured")
	only     = flag.String("only", "", "only the scenarios whose name has this text")
	servers  = flag.String("servers", "", "only these servers, by comma; all")
	output   = flag.String("json", "", "the file for the figures")
	sinking  = flag.Bool("sink", false, "for internal use: be the backend")
)

func main() {
	flag.Parse()
	run := bench
	if *sinking {
		run = serveSink
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func bench() error {
	dir, err := os.MkdirTemp("", "smtp-tlsproxy-bench-peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	certs := filepath.Join(dir, "certs")
	if err := makeCertificates(certs); err != nil {
		return err
	}
	sink, stopSink, err := startSink()
	if err != nil {
		return err
	}
	defer stopSink()
	report, err := begin()
	if err != nil {
		return err
	}
	err = compare(report, filepath.Join(dir, "sessions"), certs, sink)
	if err == nil && *idle != "" {
		err = compareIdle(report, filepath.Join(dir, "idle"), certs, sink)
	}
	return errors.Join(err, report.finish())
}

// chosen are the servers of the flag.
func chosen() (some []server) {
	for _, s := range all {
		if *servers == "" || strings.Contains(","+*servers+",", ","+s.name+",") {
			some = append(some, s)
		}
	}
	return some
}

// compare runs all servers at once and drives one after the other.
func compare(r *report, dir, certs string, sink [2]string) (err error) {
	var running []*process
	defer func() {
		for _, p := range running {
			err = errors.Join(err, p.stop())
		}
	}()
	for _, s := range chosen() {
		p, err := s.start(dir, certs, sink)
		if err != nil {
			return err
		}
		running = append(running, p)
	}
	for _, sc := range scenarios() {
		if !strings.Contains(sc.name, *only) {
			continue
		}
		l := line{Name: sc.name, Unit: sc.unit, Rounds: make(map[string][]float64)}
		for round := range sc.rounds + 1 {
			for _, p := range running {
				if !sc.fits(p.server) {
					continue
				}
				figure, err := sc.once(p)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", p.name, sc.name, err)
				}
				if round > 0 { // code and caches got warm in the first
					l.Rounds[p.name] = append(l.Rounds[p.name], figure)
				}
			}
		}
		r.add(l)
	}
	return nil
}

func compareIdle(r *report, dir, certs string, sink [2]string) error {
	var steps []int
	for each := range strings.SplitSeq(*idle, ",") {
		n, err := strconv.Atoi(each)
		if err != nil {
			return fmt.Errorf("-idle: %w", err)
		}
		steps = append(steps, n)
	}
	for _, s := range chosen() {
		g, err := measureIdle(s, dir, certs, sink, steps)
		if err != nil {
			return fmt.Errorf("%s: idle sessions: %w", s.name, err)
		}
		r.addIdle(g)
	}
	return nil
}

// makeCertificates makes a folder for each key type, with chain and key in one
// file besides, as HAProxy and Hitch want them.
func makeCertificates(dir string) error {
	ca, err := devcert.NewCA("bench")
	if err != nil {
		return err
	}
	for name, key := range map[string]devcert.KeyType{ecdsaName: devcert.ECDSA, rsaName: devcert.RSA2048} {
		if err := ca.WriteFolder(dir, name, devcert.Leaf{Names: []string{name}, Key: key}); err != nil {
			return err
		}
		var both []byte
		for _, file := range []string{"cert.pem", "key.pem"} {
			data, err := os.ReadFile(filepath.Join(dir, name, file))
			if err != nil {
				return err
			}
			both = append(both, data...)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "both.pem"), both, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// startSink runs the backend in a process of its own.
func startSink() (addresses [2]string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return addresses, nil, err
	}
	cmd := exec.Command(self, "-sink")
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return addresses, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return addresses, nil, err
	}
	if err := cmd.Start(); err != nil {
		return addresses, nil, err
	}
	stop = func() { _ = input.Close(); _ = cmd.Wait() }
	if _, err := fmt.Fscan(out, &addresses[0], &addresses[1]); err != nil {
		stop()
		return addresses, nil, fmt.Errorf("the backend: %w", err)
	}
	return addresses, stop, nil
}
