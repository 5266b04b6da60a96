package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// dashboard is what the tests look at in the dashboard for Grafana.
type dashboard struct {
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
}

// panel is one picture of it, or the title of a row.
type panel struct {
	ID                       int
	Type, Title, Description string
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		Expr       string
		Datasource struct{ UID string }
	}
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile("../deploy/grafana/smtp-tlsproxy.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDashboard_SaysWhatItShows: no panel without a unit and a description, and
// none that asks another data source than the one that was chosen.
func TestDashboard_SaysWhatItShows(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	ids := make(map[int]bool)
	var rows []string
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("panel %q: its id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q lacks a title, a description, a unit or a query", p.Title)
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q asks %q, not the data source chosen", p.Title, target.Datasource.UID)
			}
		}
	}
	want := []string{"Overview", "TLS mix", "Handshake failures by reason", "STARTTLS", "Sessions and messages", "Bytes", "Backends", "Certificates by expiry", "Process"}
	if !slices.Equal(rows, want) || d.SchemaVersion < 41 {
		t.Errorf("version %d with the rows %q, want 41 with %q", d.SchemaVersion, rows, want)
	}
}

// labelValues is a variable's query: which values a label has.
var labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)

// queries are the expressions of the dashboard, its variables filled in as
// Grafana does, by where they stand.
func (d dashboard) queries(t *testing.T, p *proxy) map[string]string {
	t.Helper()
	fill := strings.NewReplacer("$__rate_interval", "5m", "$__range", "5m",
		"$job", "smtp-tlsproxy", "$instance", p.admin, "$listener", "(submissions|submission|mx)")
	queries := make(map[string]string)
	for _, v := range d.Templating.List {
		if v.Type == "datasource" {
			continue
		}
		parts := labelValues.FindStringSubmatch(v.Definition)
		if parts == nil {
			t.Fatalf("variable %s: %q is no label_values", v.Name, v.Definition)
		}
		queries["variable "+v.Name] = "count by (" + parts[2] + ") (" + fill.Replace(parts[1]) + ")"
	}
	for _, panel := range d.Panels {
		for i, target := range panel.Targets {
			expression := fill.Replace(target.Expr)
			if strings.Contains(expression, "$") {
				t.Errorf("panel %q: a variable that nothing fills in: %s", panel.Title, expression)
			}
			queries["panel "+panel.Title+" "+string(rune('A'+i))] = expression
		}
	}
	return queries
}

// TestPrometheus_ShowsWhatHappens: a real Prometheus, with native histograms
// and without, finds data for every query of the dashboard, and no rule that
// it can not compute; and what went wrong meanwhile raises its alerts.
func TestPrometheus_ShowsWhatHappens(t *testing.T) {
	t.Parallel()
	need(t, "prometheus")
	certs := newCertificates(t)
	if err := certs.ca.WriteFolder(certs.dir, "broken.example", devcert.Leaf{Names: []string{"broken.example"}}); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(certs.dir, "broken.example", "key.pem"), "")
	p := startProxy(t, setup{certificates: certs, backend: startRecorder(t, withHeader).address, mx: loopback(t),
		backends: `dead: {addresses: ["` + loopback(t) + `"]}`, routes: "[{server_names: [b.example], backend: dead}]"})
	classic, native := startPrometheus(t, p), startPrometheus(t, p, "--enable-feature=native-histograms")
	makeTraffic(t, p)

	for name, server := range map[string]*prometheus{"classic": classic, "native": native} {
		t.Run(name, func(t *testing.T) {
			server.requireData(t, readDashboard(t).queries(t, p))
			server.requireRules(t)
			server.requireAlerts(t, map[string]string{
				"BackendDown": "pending", "CertificateBroken": "pending", "ConfigReloadFailed": "pending", "STARTTLSInjection": "firing",
				"Down": "inactive", "DrainOverrun": "inactive", "Panic": "inactive", "CertificateExpired": "inactive", "FileDescriptorsNearLimit": "inactive",
			})
		})
	}
	const histogram = "smtp_tlsproxy_tls_handshake_duration_seconds"
	native.requireData(t, map[string]string{"native histogram": "histogram_count(" + histogram + `{listener="submissions"}) > 0`})
	classic.requireData(t, map[string]string{"classic histogram": histogram + `_bucket{listener="submissions",le="+Inf"} > 0`})
}

// makeTraffic lets happen what the dashboard shows: mail by all ways, clients
// that fail, a backend that is down, a reload that is taken and one that is not.
func makeTraffic(t *testing.T, p *proxy) {
	t.Helper()
	for _, port := range p.ports() {
		c := open(t, port, clientOptions{serverName: "a.example", trust: p.certificates})
		c.mailTo(t, "client.test", "user@a.example")
		c.must(t, 354, "DATA")
		c.must(t, 250, "Subject: mail\r\n\r\ntext\r\n.")
		c.mustEnd(t, 221, "QUIT")
	}
	nobody := *p.certificates
	nobody.ca = newCertificates(t).ca
	c := dial(t, p.submissions, "")
	if err := c.startTLS(clientOptions{serverName: "a.example", trust: &nobody}.config()); err == nil {
		t.Error("a client took the certificate of an authority that it does not trust")
	}
	p.waitMetric(t, handshakeFailures("submissions", "client_rejected_certificate"), "1")
	p.waitLog(t, `"reason":"client_rejected_certificate","alert":"bad_certificate"`)
	c = dial(t, p.submissions, "")
	c.mustSend(t, "GET / HTTP/1.1\r\n\r\n")
	c.rest(t)
	c = dial(t, p.submission, "")
	c.mustGreet(t)
	c.must(t, 250, "EHLO client.test")
	c.mustSend(t, "STARTTLS\r\nMAIL FROM:<injected@client.test>\r\n")
	c.rest(t)
	c = handshaken(t, p.ports()[0], clientOptions{serverName: "b.example", trust: p.certificates})
	if got := c.rest(t); !strings.HasPrefix(got, "421 ") {
		t.Errorf("the client of a backend that is down got %q", got)
	}
	p.rewrite(t, p.yaml())
	p.waitMetric(t, `smtp_tlsproxy_config_reloads_total{result="success"}`, "2")
	p.rewrite(t, p.yaml()+"mistake: true\n")
	p.waitMetric(t, "smtp_tlsproxy_config_last_reload_successful", "0")
}

// requireRules wants that each rule is computed, and that each alert tells
// people what it is about and what to do.
func (s *prometheus) requireRules(t *testing.T) {
	t.Helper()
	tested, err := os.ReadFile("../deploy/prometheus/rules_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "all rules were computed", func() bool {
		return !slices.ContainsFunc(s.rules(t), func(r rule) bool { return r.Health == "unknown" })
	})
	recorded := make(map[string]string)
	for _, r := range s.rules(t) {
		if _, err := s.query(r.Query); err != nil || r.Health != "ok" {
			t.Errorf("rule %s: health %q: %s %v", r.Name, r.Health, r.LastError, err)
		}
		if r.Type != "alerting" {
			recorded["rule "+r.Name] = r.Name
			continue
		}
		if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Annotations["runbook"] == "" {
			t.Errorf("alert %s lacks severity, summary, description or runbook: %v %v", r.Name, r.Labels, r.Annotations)
		}
		if !strings.Contains(string(tested), `alertname="`+r.Name+`"`) {
			t.Errorf("rules_test.yaml does not let the alert %s fire", r.Name)
		}
	}
	s.requireData(t, recorded)
}

// requireAlerts waits for what the alerts come to.
func (s *prometheus) requireAlerts(t *testing.T, want map[string]string) {
	t.Helper()
	for name, state := range want {
		var got string
		eventually(t, "the alert "+name+" is "+state, func() bool {
			for _, r := range s.rules(t) {
				if r.Name == "SmtpTlsproxy"+name {
					got = r.State
				}
			}
			return got == state
		})
	}
}
