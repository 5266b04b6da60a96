package metrics_test

import (
	"crypto/tls"
	"maps"
	"os"
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
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	families := make(map[string]family)
	for line := range strings.Lines(string(page)) {
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

// TestReasonsHaveTheirWords: what the log and the status page say of a failed
// handshake stands in docs/metrics.md, word for word.
func TestReasonsHaveTheirWords(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), "`", "")
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
