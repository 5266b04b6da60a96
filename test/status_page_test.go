package test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// statusNow is a part of /status.json.
type statusNow struct {
	Ready        bool
	Certificates struct {
		Indexed int
		States  struct{ Broken, Expired, Expiring, Valid, Unread int }
		Domains struct {
			Matches, Page, Pages int
			List                 []struct{ Name, State, Fault string }
		}
	}
	Listeners []struct {
		Name       string
		Handshakes struct {
			Count, Failed int
		}
	}
	Backends []struct {
		Addresses []struct{ Address, State string }
	}
	Failures []struct {
		Listener, Client, Reason, Meaning, Detail string
		ServerName                                string `json:"server_name"`
	} `json:"handshake_failures"`
}

func (p *proxy) status(t testing.TB, query string) (now statusNow) {
	t.Helper()
	code, body := get("http://" + p.admin + "/status.json" + query)
	if err := json.Unmarshal([]byte(body), &now); code != http.StatusOK || err != nil {
		t.Fatalf("/status.json: %d %v\n%s", code, err, body)
	}
	return now
}

// hostileMarkup are server names that would become markup, or break the page, if
// it took them as they are.
var hostileMarkup = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onclick='alert(1)`, "{{.Version}}", "&lt;b&gt;", "</td></tr></table><h1>", "a\r\n\r\nb",
	"\u202egnp.elpmaxe", "\x00\x1b[31m", strings.Repeat("<", 60_000), strings.Repeat("w", 300), "a" + strings.Repeat("\u0301", 100),
}

// statusScene is a proxy with all that the status page can show: traffic,
// failures of hostile clients, a folder that is broken, one that expires soon
// and one that has, and an address that is down.
func statusScene(t *testing.T) *proxy {
	certs := newCertificates(t)
	for name, left := range map[string]time.Duration{"soon.example": 5*24*time.Hour + time.Hour, "over.example": -3 * 24 * time.Hour} {
		leaf := devcert.Leaf{Names: []string{name}, NotBefore: time.Now().Add(-9 * 24 * time.Hour), Lifetime: left + 9*24*time.Hour}
		if err := certs.ca.WriteFolder(certs.dir, name, leaf); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(certs.dir, "broken.example", "cert.pem"), "no certificate")
	writeFile(t, filepath.Join(certs.dir, "broken.example", "key.pem"), "no key")
	down := loopback(t)
	p := startProxy(t, setup{certificates: certs, backend: startRecorder(t, withHeader).address, others: []string{down}, tls: "unknown_sni: reject"})
	for _, port := range p.ports() {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13, tls.VersionTLS13} {
			config := clientOptions{serverName: "b.example", trust: certs}.config()
			config.MaxVersion = version
			if _, err := handshakeWith(t, port, config); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range hostileMarkup {
			requireAlert(t, port, helloFor(t, name), unrecognizedName)
		}
	}
	eventually(t, "all that there is to see is known", func() bool {
		now := p.status(t, "")
		states := now.Certificates.States
		return states.Unread == 0 && states.Broken == 1 && states.Expired == 1 && states.Expiring == 1 && len(now.Failures) == 2*len(hostileMarkup) &&
			now.Backends[0].Addresses[0].State == "up" && now.Backends[0].Addresses[1].State == "down"
	})
	return p
}

// TestStatusPage: what a person sees at the admin address is all there, for
// narrow and wide, light and dark, and no client can make it anything else.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	need(t, "chromium")
	p := statusScene(t)
	t.Run("text", func(t *testing.T) { requireStatusText(t, p) })
	t.Run("search", func(t *testing.T) { requireSearch(t, p) })
	for _, l := range []look{
		{"light-wide", 1280, 2600, "1"}, {"dark-wide", 1280, 2600, "0"}, {"light-phone", 390, 5200, "1"}, {"dark-phone", 390, 5200, "0"},
	} {
		t.Run(l.name, func(t *testing.T) { requireLook(t, p, l) })
	}
}

// requireLook holds what a browser makes of the page.
func requireLook(t *testing.T, p *proxy, l look) {
	picture := screenshot(t, l, "http://"+p.admin+"/")
	if got := picture.Bounds().Dx(); got != l.width {
		t.Errorf("the screenshot is %d wide, want %d", got, l.width)
	}
	if level := brightness(picture); l.dark() != (level < 80) || l.dark() == (level > 200) {
		t.Errorf("the background's brightness is %d of 255, dark mode: %t", level, l.dark())
	}
	m := measure(t, l, p.admin)
	if m.Dark != l.dark() {
		t.Errorf("measured in dark mode: %t", m.Dark)
	}
	if m.Width != float64(l.width) || m.Content > m.Width || len(m.Outside) > 0 {
		t.Errorf("window %v, content %v, outside of it %q", m.Width, m.Content, m.Outside)
	}
	if m.Contrast < 4.5 {
		t.Errorf("contrast %.2f, want 4.5 (AA), of %q", m.Contrast, m.Faintest)
	}
	if m.Scripts != 0 {
		t.Errorf("%d elements that the page does not have of itself", m.Scripts)
	}
	if want := len(hostileMarkup)*2 + 2 + 2 + 7 + 4; m.Rows < want { // failures, listeners, addresses, folders, what was agreed on
		t.Errorf("%d rows, want %d at least", m.Rows, want)
	}
}

// requireStatusText holds what the page says.
func requireStatusText(t *testing.T, p *proxy) {
	code, page := get("http://" + p.admin + "/")
	if code != http.StatusOK || !utf8.ValidString(page) {
		t.Fatalf("%d, %d bytes", code, len(page))
	}
	for _, want := range []string{
		">submissions<", ">submission<", p.submissions, "STARTTLS, required", "implicit TLS", ">TLSv1.2<", ">TLSv1.3<", ">X25519MLKEM768<",
		p.others[0], "connection refused", "broken.example", "cert.pem", "soon.example", "in 5 days", "over.example", "3 days ago",
		"unknown_sni", "127.0.0.1:", `a\r\n\r\nb`, `\u202egnp.elpmaxe`, `\x00\x1b[31m`, "{{.Version}}",
		"1 certificate folder is broken.", html.EscapeString("1 folder's certificate has expired."), "1 of 2 addresses are up.",
		html.EscapeString(`<script>`), html.EscapeString(hostileMarkup[4]),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not tell %q", want)
		}
	}
	for _, never := range []string{"<script", "<img", "onclick='", "\u202e", "\x00", "\x1b", strings.Repeat("&lt;", 256), strings.Repeat("w", 256)} {
		if strings.Contains(page, never) {
			t.Errorf("the page has %q", never)
		}
	}
	if len(page) > 60_000 {
		t.Errorf("the page has %d bytes", len(page))
	}
	now := p.status(t, "")
	for _, l := range now.Listeners {
		if l.Handshakes.Count != 3+len(hostileMarkup) || l.Handshakes.Failed != len(hostileMarkup) {
			t.Errorf("%+v", l)
		}
	}
	for i, failure := range now.Failures { // both pages tell the same
		if !strings.Contains(page, failure.Client) || !strings.Contains(page, html.EscapeString(failure.Meaning)) || failure.Reason != "unknown_sni" || failure.Detail == "" {
			t.Errorf("failure %d: %+v", i, failure)
		}
	}
	if first := now.Failures[0]; first.Listener != "submission" || !strings.HasPrefix(first.ServerName, "a\u0301") {
		t.Errorf("the newest failure is %+v", first)
	}
}

// requireSearch holds that domains are found by a part of their name and by
// their state, page by page, in JSON and for people alike.
func requireSearch(t *testing.T, p *proxy) {
	for _, test := range []struct {
		query string
		pages int
		names string // all that the page has, in its order
	}{
		{"", 1, "broken.example over.example soon.example *.w.example a.example b.example c.example"},
		{"?per_page=2&page=2", 4, "soon.example *.w.example"},
		{"?per_page=2&page=99", 4, "c.example"},
		{"?per_page=-1&page=nonsense&state=nonsense", 1, "broken.example over.example soon.example *.w.example a.example b.example c.example"},
		{"?q=OVER", 1, "over.example"},
		{"?state=broken", 1, "broken.example"},
		{"?state=expiring", 1, "soon.example"},
		{"?q=example&state=valid&per_page=3", 2, "*.w.example a.example b.example"},
		{"?q=%3Cscript%3E", 1, ""},
	} {
		now := p.status(t, test.query).Certificates
		var names []string
		for _, d := range now.Domains.List {
			names = append(names, d.Name)
		}
		if got := strings.Join(names, " "); got != test.names || now.Domains.Pages != test.pages || now.Indexed != 7 {
			t.Errorf("%q: %q on one of %d pages, want %q on one of %d", test.query, got, now.Domains.Pages, test.names, test.pages)
		}
		_, page := get("http://" + p.admin + "/" + test.query)
		if got := strings.Count(page, `.example</bdi></th>`); got != len(names) || strings.Contains(page, "<script") {
			t.Errorf("%q: the page has %d domains, want %d", test.query, got, len(names))
		}
		if _, of, _ := strings.Cut(page, fmt.Sprintf("Page %d of ", now.Domains.Page)); test.pages > 1 && !strings.HasPrefix(of, fmt.Sprint(test.pages)) {
			t.Errorf("%q: the page does not tell which it is", test.query)
		}
	}
	if dir := os.Getenv(screenshotsVariable); dir != "" {
		screenshot(t, look{"search-phone", 390, 5200, "1"}, "http://"+p.admin+"/?q=example&per_page=2&page=2")
	}
}
