package test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// prometheusProgram is where test/install unpacks Prometheus and promtool, or
// the machine's own.
func prometheusProgram(name string) string {
	cache := cmp.Or(os.Getenv("TLSPROXY_TEST_CACHE"), filepath.Join("..", ".cache"))
	path, err := filepath.Abs(filepath.Join(cache, "prometheus", "usr", "bin", name))
	if err != nil || !isFile(path) {
		return "/usr/bin/" + name
	}
	return path
}

// rulesFile is what operators load.
const rulesFile = "../deploy/prometheus/rules.yaml"

// prometheus is a Prometheus server with our rules, which scrapes a proxy.
type prometheus struct {
	*process
	address string
}

// startPrometheus scrapes the proxy until the end of the test, and returns
// once it has done so.
func startPrometheus(t testing.TB, p *proxy, flags ...string) *prometheus {
	t.Helper()
	need(t, "prometheus")
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yaml")
	writeFile(t, config, fmt.Sprintf(`global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [%q]
scrape_configs:
  - job_name: smtp-tlsproxy
    static_configs: [{targets: [%q]}]
`, rules, p.admin))
	server := &prometheus{address: loopback(t)}
	command := exec.Command(prometheusProgram("prometheus"), append([]string{
		"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + server.address, "--log.level=warn",
	}, flags...)...)
	server.process = startProcess(t, "Prometheus", filepath.Join(dir, "prometheus.log"), command)
	waitListening(t, server.process, server.address)
	eventually(t, "Prometheus has scraped the proxy", func() bool {
		found, err := server.query("up == 1")
		return err == nil && len(found) == 1
	})
	return server
}

// ask fetches a page of Prometheus's API.
func (s *prometheus) ask(page string, into any) error {
	client := http.Client{Timeout: patience}
	response, err := client.Get("http://" + s.address + "/api/v1/" + page)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", response.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", response.Status, answer.Error)
	}
	return nil
}

// sample is a value that a query found: a number as text, or a native histogram.
type sample struct {
	Metric    map[string]string
	Value     [2]any
	Histogram [2]any
}

// number is whether the sample has a value. 0 divided by 0 is none.
func (s sample) number() bool {
	return s.Histogram[1] != nil || s.Value[1] != nil && s.Value[1] != "NaN"
}

// query asks for the values now.
func (s *prometheus) query(expression string) ([]sample, error) {
	var found struct{ Result []sample }
	err := s.ask("query?query="+url.QueryEscape(expression), &found)
	return found.Result, err
}

// requireData wants that each of the queries, once the scrapes are there, has
// a number. They are given by what they are for.
func (s *prometheus) requireData(t *testing.T, queries map[string]string) {
	t.Helper()
	without := maps.Clone(queries)
	for deadline := time.Now().Add(patience); len(without) > 0 && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		for what, expression := range without {
			found, err := s.query(expression)
			if err != nil {
				t.Errorf("%s: %v, of:\n%s", what, err, indent(expression))
			}
			if err != nil || slices.ContainsFunc(found, sample.number) {
				delete(without, what)
			}
		}
	}
	for what, expression := range without {
		t.Errorf("%s: no data of:\n%s", what, indent(expression))
	}
}

// rule is one of rulesFile, as Prometheus read it.
type rule struct {
	Name, Query, Type, Health, LastError, State string
	Labels, Annotations                         map[string]string
}

// rules are all of them.
func (s *prometheus) rules(t *testing.T) []rule {
	t.Helper()
	var found struct{ Groups []struct{ Rules []rule } }
	if err := s.ask("rules", &found); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, group := range found.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// TestPrometheus_RulesHold: promtool takes the example and the rules, and each
// alert fires when it should and only then.
func TestPrometheus_RulesHold(t *testing.T) {
	t.Parallel()
	need(t, "prometheus")
	promtool := prometheusProgram("promtool")
	runProgram(t, promtool, "check", "config", "--lint=all", "--lint-fatal", "../deploy/prometheus/prometheus.yaml").requireCode(t, 0)
	runProgram(t, promtool, "check", "rules", "--lint=all", "--lint-fatal", rulesFile).requireCode(t, 0)
	runProgram(t, promtool, "test", "rules", "../deploy/prometheus/rules_test.yaml").requireCode(t, 0)
}

// TestPrometheus_MetricsAreClean: promtool finds nothing to say about the page
// of a proxy that runs.
func TestPrometheus_MetricsAreClean(t *testing.T) {
	t.Parallel()
	need(t, "prometheus")
	p := startProxy(t, setup{certificates: newCertificates(t), backend: startRecorder(t, withHeader).address})
	_, page := get("http://" + p.admin + "/metrics")
	if r := runFed(t, strings.NewReader(page), prometheusProgram("promtool"), "check", "metrics"); r.code != 0 || r.output != "" {
		t.Errorf("exit code %d of %s:\n%s", r.code, r.command, indent(r.output))
	}
}
