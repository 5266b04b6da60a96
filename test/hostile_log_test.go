package test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// forged are texts from clients and backends that would make lines of their
// own, or colours, or nonsense, if a log took them as they are.
var forged = []string{
	"a\nlevel=error msg=\"x\"", "a\r\n{\"level\":\"ERROR\",\"msg\":\"x\"}", "a\" level=ERROR msg=\"x", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07",
	"\xff\xfe\x80", "\x00\x01\x02", "\u202ereversed", "\u2028line", "\u200bzero width", "\x7f\x9b", "back\\slash\\n", "'quoted'", "tab\ttab", "caf\u00e9",
}

// TestR84_HostileServerNamesInTheLog: one line for each session, escaped and
// cut, in both formats.
func TestR84_HostileServerNamesInTheLog(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	names := append([]string{strings.Repeat("n", 60_000), strings.Repeat("\xff", 1000), strings.Repeat("\n", 300), strings.Repeat("\u00e9", 200)}, forged...)
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, setup{certificates: certs, backend: server.address, logFormat: format, tls: "unknown_sni: reject"})
			for _, port := range p.ports() {
				for _, name := range names {
					requireAlert(t, port, helloFor(t, name), unrecognizedName)
				}
				for _, text := range forged {
					requireAlert(t, port, helloFor(t, "a.example", text), noApplicationProtos)
				}
			}
			requireSessionLines(t, p, format, 2*(len(names)+len(forged)), "server_name")
		})
	}
}

// TestR84_HostileReplyInTheLog: a backend's words are no better.
func TestR84_HostileReplyInTheLog(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	text := strings.Join(forged, " ")
	server := startRecorder(t, withHeader, func(r *recorder) {
		r.greeting = "554 " + strings.NewReplacer("\r", " ", "\n", " ").Replace(text) + "\r\n"
	})
	for _, format := range []string{"text", "json"} {
		p := startProxy(t, setup{certificates: certs, backend: server.address, logFormat: format})
		handshaken(t, p.ports()[0], clientOptions{serverName: "a.example", trust: certs}).rest(t)
		requireSessionLines(t, p, format, 1, "error")
	}
}

// requireSessionLines wants so many lines of sessions, and none that breaks
// the format, has what a terminal would act on, or a field longer than the
// escaped form of 255 bytes.
func requireSessionLines(t *testing.T, p *proxy, format string, want int, field string) {
	t.Helper()
	mark := map[string]string{"text": "msg=session ", "json": `"msg":"session"`}[format]
	eventually(t, fmt.Sprintf("there are %d lines of sessions", want), func() bool {
		return strings.Count(p.logged(), mark) >= want
	})
	log := p.logged()
	if got := strings.Count(log, mark); got != want {
		t.Errorf("there are %d lines of sessions, want %d", got, want)
	}
	requireCleanLog(t, p)
	if !utf8.ValidString(log) {
		t.Error("the log is not UTF-8")
	}
	for line := range strings.Lines(log) {
		value, ok := fieldOf(line, format, field)
		if !ok {
			t.Errorf("a line that is not in the format: %q", line)
		}
		if text := unescaped(value); len(text) > 255 {
			t.Errorf("the field %s has %d bytes: %q", field, len(text), value)
		}
		ours := strings.Contains(line, mark) || strings.Contains(line, "backend does not answer")
		if !ours && strings.Contains(strings.ToLower(line), "error") {
			t.Errorf("a line that somebody else wrote: %q", line)
		}
	}
}

var textLine = regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO|WARN|ERROR) msg=(\S+|"[^"]*")( [a-z_]+=([^\s"=]+|"([^"\\]|\\.)*"))*\n$`)

// fieldOf reads a field of a log line, "" where it has none.
func fieldOf(line, format, field string) (value string, ok bool) {
	if format == "json" {
		fields := make(map[string]any)
		err := json.Unmarshal([]byte(line), &fields)
		value, _ = fields[field].(string)
		return value, err == nil
	}
	if !textLine.MatchString(line) {
		return "", false
	}
	_, value, _ = strings.Cut(line, " "+field+"=")
	if strings.HasPrefix(value, `"`) {
		quoted, err := strconv.QuotedPrefix(value)
		if err != nil {
			return "", false
		}
		value, err = strconv.Unquote(quoted)
		return value, err == nil
	}
	value, _, _ = strings.Cut(value, " ")
	return value, true
}

// unescaped undoes the program's own escapes.
func unescaped(value string) string {
	for _, escape := range []string{`\\x[0-9a-f]{2}`, `\\u[0-9a-f]{4}`, `\\[abfnrtv]`} {
		value = regexp.MustCompile(escape).ReplaceAllString(value, "x")
	}
	return value
}

// TestR85_SeriesDoNotGrow: no text of a client's becomes a label.
func TestR85_SeriesDoNotGrow(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	fallback := startProxy(t, setup{certificates: certs, backend: server.address})
	reject := startProxy(t, setup{certificates: certs, backend: server.address, tls: "unknown_sni: reject"})
	for _, p := range []*proxy{fallback, reject} {
		ports := p.ports()
		shake := func(to port, name string, protocols ...string) {
			c := atHandshake(t, to, "")
			_ = c.startTLS(helloConfig(name, protocols...)) // refused by one of the proxies
			c.close()
		}
		for _, port := range ports { // each kind of handshake once: its series may be new
			shake(port, "other.test")
			shake(port, "b.example")
			shake(port, "")
			shake(port, "other.test", "h2")
		}
		const others = `smtp_tlsproxy_sni_requests_total{domain="other"}`
		p.waitMetric(t, others, "4")
		p.waitIdle(t)
		before := p.series(t)
		var clients sync.WaitGroup
		for worker := range 4 {
			clients.Go(func() {
				for i := range 75 {
					name := fmt.Sprintf("name%d-%d.%s.example", worker, i, newMarker())
					if i%10 == 0 {
						name = forged[i/10%len(forged)] + name
					}
					c, err := tryDial(p.submissions, "")
					if err != nil {
						t.Error(err)
						return
					}
					_ = c.startTLS(helloConfig(name))
					_ = c.send([]byte("EHLO " + newMarker() + "\r\nQUIT\r\n"))
					c.close()
				}
			})
		}
		clients.Wait()
		p.waitMetric(t, others, "304")
		p.waitIdle(t)
		after := p.series(t)
		for _, name := range after {
			if !slices.Contains(before, name) {
				t.Errorf("a new series: %s", name)
			}
		}
		if len(after) != len(before) {
			t.Errorf("%d series became %d", len(before), len(after))
		}
	}
}

// waitIdle waits until all connections are closed.
func (p *proxy) waitIdle(t testing.TB) {
	t.Helper()
	for _, listener := range []string{"submissions", "submission"} {
		p.waitMetric(t, fmt.Sprintf("smtp_tlsproxy_connections_open{listener=%q}", listener), "0")
	}
}

// series are the names of all samples, with their labels.
func (p *proxy) series(t testing.TB) []string {
	t.Helper()
	_, body := get("http://" + p.admin + "/metrics")
	var names []string
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "#") {
			names = append(names, line[:strings.LastIndexByte(line, ' ')])
		}
	}
	if len(names) < 100 {
		t.Fatalf("only %d series:\n%s", len(names), body)
	}
	return names
}
