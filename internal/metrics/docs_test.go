package metrics_test

import (
	"crypto/tls"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
)

// closed are the labels whose every value docs/metrics.md lists.
var closed = map[string]bool{
	"result": true, "reason": true, "outcome": true, "direction": true, "tls": true, "resumed": true, "alert": true, "key_type": true,
}

// family is what a row of docs/metrics.md says of one: its type, its labels,
// and the values of those labels that are closed, sorted.
type family struct {
	kind  string
	words []string
}

var quoted = regexp.MustCompile("`([^`]+)`")

// documented are the families in the tables of docs/metrics.md.
func documented(t *testing.T) map[string]family {
	t.Helper()
	families := make(map[string]family)
	for line := range strings.Lines(read(t, "../../docs/metrics.md")) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.HasPrefix(cells[1], " `smtp_tlsproxy_") {
			continue
		}
		f := family{kind: strings.TrimSpace(cells[2])}
		for _, match := range quoted.FindAllStringSubmatch(cells[3], -1) {
			f.words = append(f.words, match[1])
		}
		slices.Sort(f.words)
		families[strings.Trim(cells[1], " `")] = f
	}
	return families
}

// exported are the families of reg, without Go's and the process's own.
func exported(t *testing.T, reg prometheus.Gatherer) map[string]family {
	t.Helper()
	gathered, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	families := make(map[string]family)
	for _, g := range gathered {
		if !strings.HasPrefix(g.GetName(), "smtp_tlsproxy_") {
			continue
		}
		words := make(map[string]bool)
		for _, m := range g.GetMetric() {
			for _, pair := range m.GetLabel() {
				words[pair.GetName()] = true
				if closed[pair.GetName()] {
					words[pair.GetValue()] = true
				}
			}
		}
		families[g.GetName()] = family{
			kind:  strings.ToLower(g.GetType().String()),
			words: slices.Sorted(maps.Keys(words)),
		}
	}
	return families
}

func TestDocumentationIsTrue(t *testing.T) {
	reg, p, c := all(t)
	p.Listener("submission").HandshakeDone(modern, 0)
	p.Listener("submission").HandshakeDone(tls.ConnectionState{DidResume: true}, 0)
	c.Follow(func() metrics.CertificateState { return state("rsa", "ecdsa", "ed25519") })

	docs := documented(t)
	for name, is := range exported(t, reg) {
		says, ok := docs[name]
		if !ok {
			t.Errorf("%s is not documented", name)
			continue
		}
		if says.kind != is.kind || !slices.Equal(says.words, is.words) {
			t.Errorf("%s: documented\n\t%v, it is\n\t%v", name, says, is)
		}
		delete(docs, name)
	}
	for name := range docs {
		t.Errorf("%s is documented but does not exist", name)
	}
}

// TestDeployedNamesExist: the dashboard, the rules and the documentation ask
// for nothing that the program does not export, and no rule is recorded that
// has another name where it is used.
func TestDeployedNamesExist(t *testing.T) {
	reg, p, _ := all(t)
	p.Listener("submission").HandshakeDone(modern, 0)
	families := exported(t, reg)
	named := regexp.MustCompile(`[a-z0-9_:]*\bsmtp_tlsproxy_[a-z0-9_:]+`)
	recorded := regexp.MustCompile(`(?m)^ *- record: (\S+)$`)
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	const rules = "../../deploy/prometheus/rules.yaml"
	known := make(map[string]bool)
	for _, match := range recorded.FindAllStringSubmatch(read(t, rules), -1) {
		known[match[1]] = true
	}
	for _, file := range append(files, rules, "../../deploy/prometheus/rules_test.yaml", "../../deploy/grafana/smtp-tlsproxy.json", "../../README.md") {
		names := named.FindAllString(read(t, file), -1)
		if strings.Contains(file, "deploy") && len(names) < 15 {
			t.Errorf("%s names only %d metrics: the test does not find them", file, len(names))
		}
		for _, name := range names {
			family := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
			if _, exists := families[name]; !exists && families[family].kind != "histogram" && !known[name] {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestReasonsHaveTheirWords: what the log and the status page say of a failed
// handshake stands in docs/metrics.md, word for word.
func TestReasonsHaveTheirWords(t *testing.T) {
	text := strings.ReplaceAll(read(t, "../../docs/metrics.md"), "`", "")
	reg, _, _ := all(t)
	reasons := 0
	for _, label := range exported(t, reg)["smtp_tlsproxy_tls_handshake_failures_total"].words {
		if label == "listener" || label == "reason" {
			continue
		}
		reasons++
		f := metrics.HandshakeFailure(label)
		if f.Meaning() == "" || f.Mend() == "" || !strings.Contains(text, "\n| "+label+" | "+f.Meaning()+" | "+f.Mend()+" |\n") {
			t.Errorf("docs/metrics.md has no row | `%s` | %s | %s |", label, f.Meaning(), f.Mend())
		}
	}
	if reasons != 15 {
		t.Errorf("%d reasons, want 15", reasons)
	}
}
