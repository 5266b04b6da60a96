package admin

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var at = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// filler fills a status with values that differ, and notes what the page makes
// of each.
type filler struct {
	n     int
	wants map[string]string // by the place of the field
}

// shownOtherwise are fields that the page shows in other words.
var shownOtherwise = []string{
	".UptimeSeconds", ".Ready", ".Draining", ".Listeners.Mode", ".Certificates.Domains.State", ".Certificates.Domains.PerPage",
	".Listeners.LastMinute.FailedShare", ".Certificates.States", ".Certificates.Domains.Page", ".Certificates.Domains.Pages",
}

func (f *filler) fill(place string, v reflect.Value) {
	f.n++
	want := ""
	switch value := v.Interface().(type) {
	case time.Time:
		then := at.AddDate(0, 0, f.n)
		v.Set(reflect.ValueOf(then))
		want = then.Format(time.DateOnly)
	case netip.AddrPort:
		v.Set(reflect.ValueOf(netip.MustParseAddrPort(fmt.Sprintf("192.0.2.1:%d", 1000+f.n))))
		want = fmt.Sprintf("192.0.2.1:%d", 1000+f.n)
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", f.n))))
		want = fmt.Sprintf("10.%d.0.0/16", f.n)
	case string:
		v.SetString(fmt.Sprintf("<text&%d>", f.n))
		want = html.EscapeString(v.String())
	case int:
		v.SetInt(int64(1_000_000 + f.n))
		want = thousands(int(v.Int()))
	case uint64:
		v.SetUint(uint64(2_000_000 + f.n))
		want = thousands(v.Uint())
	case int64:
		v.SetInt(90)
	case float64:
		v.SetFloat(float64(f.n) / 200)
		want = percent(v.Float())
		if strings.HasSuffix(place, "PerSecond") {
			want = rate(v.Float())
		}
	case bool:
		v.SetBool(false)
	default:
		_ = value
		f.fillParts(place, v)
		return
	}
	if want != "" && !slices.ContainsFunc(shownOtherwise, func(p string) bool { return place == p || strings.HasPrefix(place, p+".") }) {
		f.wants[place] = want
	}
}

func (f *filler) fillParts(place string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(place, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			f.fill(fmt.Sprint(place), v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if v.Type().Field(i).Anonymous {
				f.fill(place, v.Field(i))
				continue
			}
			f.fill(place+"."+name, v.Field(i))
		}
	default:
		panic("a kind of field that the test does not know: " + place)
	}
}

// TestPageTellsAllThatTheJSONTells: what is added to one is not forgotten in
// the other, and the page escapes every text.
func TestPageTellsAllThatTheJSONTells(t *testing.T) {
	f := filler{wants: make(map[string]string)}
	var s Status
	f.fill("", reflect.ValueOf(&s).Elem())
	s.At = at
	s.Certificates.Domains.Page, s.Certificates.Domains.Pages = 2, 3
	delete(f.wants, ".At")
	if len(f.wants) < 50 {
		t.Fatalf("only %d fields are looked for: %v", len(f.wants), f.wants)
	}
	text := render(t, s)
	for place, want := range f.wants {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not show %s: no %q", place, want)
		}
	}
	if strings.Contains(text, "<text") {
		t.Error("a text is not escaped")
	}
}

func render(t *testing.T, s Status) string {
	t.Helper()
	var text strings.Builder
	if err := writePage(&text, s); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestPageWithoutAnything: at the start there is nothing to tell yet.
func TestPageWithoutAnything(t *testing.T) {
	text := render(t, Status{Reason: "starting", At: at, StartedAt: at})
	for _, want := range []string{"Not ready", "starting", "No handshake has succeeded yet.", "None since the start.", "0 seconds"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, never := range []string{"NaN", "0001-", "Needs attention", "%!", "<nil>"} {
		if strings.Contains(strings.ReplaceAll(text, `"0001-01-01T00:00:00Z"`, ""), never) {
			t.Errorf("the page has %q", never)
		}
	}
}

func TestReadinessIsTold(t *testing.T) {
	for _, test := range []struct {
		status      Status
		title, tone string
	}{
		{Status{Ready: true}, "<title>Ready ·", "ready good"},
		{Status{Draining: true, Reason: "shutting down"}, "<title>Draining ·", "ready warn"},
		{Status{Reason: "no certificate can be served"}, "<title>Not ready ·", "ready bad"},
	} {
		text := render(t, test.status)
		for _, want := range []string{test.title, test.tone, test.status.Reason} {
			if !strings.Contains(text, want) {
				t.Errorf("%+v: no %q", test.status, want)
			}
		}
	}
}

// TestPageIsAccessible: one heading of the first level, every table named and
// its columns and rows headed, every field labelled, every tag closed.
func TestPageIsAccessible(t *testing.T) {
	f := filler{wants: make(map[string]string)}
	var s Status
	f.fill("", reflect.ValueOf(&s).Elem())
	text := render(t, s)
	for _, want := range []string{`<html lang="en">`, `name="viewport"`, `<main id="main"`, "<caption>", `scope="col"`, `scope="row"`, "<label>Name <input", "<label>State <select"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	if n := strings.Count(text, "<h1"); n != 1 {
		t.Errorf("%d headings of the first level", n)
	}
	ids := make(map[string]bool)
	for _, id := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if ids[id[1]] {
			t.Errorf("two elements have the id %s", id[1])
		}
		ids[id[1]] = true
	}
	for _, ref := range regexp.MustCompile(`(?:aria-labelledby="|href="[^"]*#)([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if !ids[ref[1]] {
			t.Errorf("nothing has the id %s", ref[1])
		}
	}
	for _, tag := range []string{"table", "tr", "th", "td", "span", "div", "section", "p", "time", "bdi", "code", "a", "dl", "dt", "dd"} {
		opened, closed := len(regexp.MustCompile("<"+tag+"[ >]").FindAllString(text, -1)), strings.Count(text, "</"+tag+">")
		if opened != closed {
			t.Errorf("%d <%s> and %d </%s>", opened, tag, closed, tag)
		}
	}
	if strings.Contains(text, " style=") || strings.Contains(text, "<script") {
		t.Error("the page has what its policy forbids")
	}
}

func TestPagesOfStatus(t *testing.T) {
	var asked Query
	pages := New(Config{Status: func(q Query) Status {
		asked = q
		return Status{Version: "1.2.3", Certificates: Certificates{Domains: Domains{Query: q, Pages: 9, Matches: 450}}}
	}})
	get := func(method, path string) *httptest.ResponseRecorder {
		r := httptest.NewRecorder()
		pages.ServeHTTP(r, httptest.NewRequest(method, path, nil))
		return r
	}
	for _, test := range []struct {
		path, kind, body string
	}{
		{"/", "text/html; charset=utf-8", "version <bdi>1.2.3</bdi>"},
		{"/status.css", "text/css; charset=utf-8", "prefers-color-scheme: dark"},
		{"/status.json", "application/json", `"version": "1.2.3"`},
	} {
		r := get("GET", test.path)
		if r.Code != http.StatusOK || r.Header().Get("Content-Type") != test.kind || !strings.Contains(r.Body.String(), test.body) {
			t.Errorf("%s: %d %v\n%s", test.path, r.Code, r.Header(), r.Body)
		}
		for header, want := range map[string]string{"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
			if got := r.Header().Get(header); got != want {
				t.Errorf("%s: %s: %q, want %q", test.path, header, got, want)
			}
		}
		if r := get("POST", test.path); r.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", test.path, r.Code)
		}
	}
	if got := get("GET", "/").Header().Get("Content-Security-Policy"); got != policy || !strings.Contains(got, "default-src 'none'") {
		t.Errorf("policy %q", got)
	}
	if r := get("GET", "/nothing"); r.Code != http.StatusNotFound {
		t.Errorf("nothing: %d", r.Code)
	}
	for _, path := range []string{"/", "/status.json"} {
		get("GET", path+"?q=%20Mail.Example%20&state=valid&page=3&per_page=7")
		if want := (Query{"mail.example", Valid, 3, 7}); asked != want {
			t.Errorf("%s: asked for %+v, want %+v", path, asked, want)
		}
	}
	var s struct {
		Certificates struct{ Domains struct{ Q, State string } }
	}
	if err := json.Unmarshal(get("GET", "/status.json?q=a&state=broken").Body.Bytes(), &s); err != nil || s.Certificates.Domains.Q != "a" || s.Certificates.Domains.State != "broken" {
		t.Errorf("%+v %v", s, err)
	}
}

func TestQueries(t *testing.T) {
	for _, test := range []struct {
		parameters string
		want       Query
		next       string // the link to the next page
	}{
		{"", Query{"", "", 1, 50}, "./?page=2#domains"},
		{"q=&state=&page=&per_page=", Query{"", "", 1, 50}, "./?page=2#domains"},
		{"page=0&per_page=0", Query{"", "", 1, 50}, "./?page=2#domains"},
		{"page=-3&per_page=-3&state=all", Query{"", "", 1, 50}, "./?page=2#domains"},
		{"page=99999999999999999999&per_page=1001", Query{"", "", 1, 1000}, "./?page=2&per_page=1000#domains"},
		{"page=2000000", Query{"", "", 1_000_000, 50}, "./?page=1000001#domains"},
		{"q=A%26b%3Dc&state=unread&page=4&per_page=9", Query{"a&b=c", Unread, 4, 9}, "./?page=5&per_page=9&q=a%26b%3Dc&state=unread#domains"},
		{"q=" + strings.Repeat("a", 252) + "%c3%bc", Query{strings.Repeat("a", 252), "", 1, 50}, "./?page=2&q=" + strings.Repeat("a", 252) + "#domains"},
	} {
		values, err := url.ParseQuery(test.parameters)
		if err != nil {
			t.Fatal(err)
		}
		got := queryOf(values)
		if got != test.want {
			t.Errorf("%q: %+v, want %+v", test.parameters, got, test.want)
		}
		if link := got.link(got.Page + 1); link != test.next {
			t.Errorf("%q: the next page is %s, want %s", test.parameters, link, test.next)
		}
	}
}

func TestWords(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct{ got, want string }{
		{span(-time.Second), "0 seconds"}, {span(time.Second), "1 second"}, {span(119 * time.Second), "119 seconds"},
		{span(2 * time.Minute), "2 minutes"}, {span(2 * time.Hour), "2 hours"}, {span(47 * time.Hour), "47 hours"},
		{span(30*day - time.Minute), "29 days"}, {span(2000 * day), "2,000 days"},
		{left(at, at.Add(3*day)), "in 3 days"}, {left(at, at.Add(-3*day)), "3 days ago"}, {left(at, at), "0 seconds ago"},
		{percent(0), "0\u00a0%"}, {percent(1), "100\u00a0%"}, {percent(0.00001), "<0.1\u00a0%"}, {percent(0.99999), ">99.9\u00a0%"}, {percent(0.125), "12.5\u00a0%"},
		{rate(0), "0.0"}, {rate(0.01), "<0.1"}, {rate(1.25), "1.2"}, {rate(1234.5), "1,235"},
		{thousands(0), "0"}, {thousands(999), "999"}, {thousands(uint64(1000)), "1,000"}, {thousands(1234567), "1,234,567"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}
