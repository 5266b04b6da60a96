package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/bench/measure"
)

// report is what was measured.
type report struct {
	Date     string            `json:"date"`
	Machine  string            `json:"machine"`
	Load     []string          `json:"load_average"` // before and after
	Versions map[string]string `json:"versions"`
	Lines    []line            `json:"lines"`
	Idle     []growth          `json:"idle"`
}

type line struct {
	Name   string               `json:"name"`
	Unit   string               `json:"unit"`
	Rounds map[string][]float64 `json:"rounds"` // by server
}

// begin looks at the machine and the servers.
func begin() (*report, error) {
	r := &report{
		Date: time.Now().UTC().Format(time.RFC3339), Machine: machine(), Load: []string{measure.Load()},
		Versions: make(map[string]string),
	}
	for _, s := range chosen() {
		command := append([]string{}, s.version...)
		if command[0] == "" {
			command[0] = *binary
		}
		text, err := exec.Command(command[0], command[1:]...).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%s: %w (bench/install brings the peers)", s.name, err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		r.Versions[s.name] = strings.TrimSpace(first)
	}
	fmt.Printf("%s; load %s\n", r.Machine, r.Load[0])
	for _, s := range chosen() {
		note := ""
		if s.note != "" {
			note = " (" + s.note + ")"
		}
		fmt.Printf("%s: %s%s\n", s.name, r.Versions[s.name], note)
	}
	fmt.Println()
	var names []string
	for _, s := range chosen() {
		names = append(names, s.name)
	}
	fmt.Printf("| median (lowest–highest) | %s | to the best peer |\n|---|%s---|\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	return r, nil
}

// machine names the processor and its number of cores.
func machine() string {
	model := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for text := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(text, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores, %s, %s", runtime.NumCPU(), model, runtime.Version())
}

// add prints a line as soon as it is measured.
func (r *report) add(l line) {
	r.Lines = append(r.Lines, l)
	medians := make(map[string]float64)
	var cells []string
	for _, s := range chosen() {
		all := l.Rounds[s.name]
		if len(all) == 0 {
			cells = append(cells, "–")
			continue
		}
		medians[s.name] = measure.Median(all)
		cells = append(cells, fmt.Sprintf("%.0f (%.0f–%.0f)", medians[s.name], slices.Min(all), slices.Max(all)))
	}
	fmt.Printf("| %s, %s | %s | %s |\n", l.Name, l.Unit, strings.Join(cells, " | "), toBest(medians))
}

// toBest is our figure over that of the best peer.
func toBest(figures map[string]float64) string {
	ours, ok := figures[all[0].name]
	best, name := 0.0, ""
	for _, s := range all[1:] {
		if figure, measured := figures[s.name]; measured && (name == "" || figure < best) {
			best, name = figure, s.name
		}
	}
	if !ok || name == "" || best <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f of %s", ours/best, name)
}

func (r *report) addIdle(g growth) {
	if len(r.Idle) == 0 {
		fmt.Printf("\n| idle TLS sessions | PSS without | each of %s | CPU with the most |\n|---|---|---|---|\n", strings.Join(strings.Fields(strings.Trim(fmt.Sprint(g.Sessions), "[]")), " / "))
	}
	r.Idle = append(r.Idle, g)
	var each []string
	for _, kb := range g.KB {
		each = append(each, fmt.Sprintf("%.1f", kb))
	}
	fmt.Printf("| %s | %.1f MB | %s kB | %.1f ms/s |\n", g.Server, g.Start, strings.Join(each, " / "), g.CPU)
}

// finish writes the figures.
func (r *report) finish() error {
	r.Load = append(r.Load, measure.Load())
	fmt.Printf("\nload after: %s\n", r.Load[1])
	if *output == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*output, append(data, '\n'), 0o644)
}
