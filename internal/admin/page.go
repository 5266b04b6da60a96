package admin

import (
	_ "embed" // the page
	"html/template"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed page.html
var pageText string

//go:embed status.css
var styleSheet []byte

// page is read when it is first asked for: commands other than serve have none.
var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page.html").Funcs(pageWords).Parse(pageText))
})

var pageWords = template.FuncMap{
	"ago": ago, "since": since, "left": left, "percent": percent, "rate": rate, "thousands": thousands, "utc": utc, "mode": mode, "mark": mark, "tone": tone,
	"join": strings.Join, "prefixes": prefixes, "span": span, "count": count, "bar": bar, "day": day, "mix": mixOf, "states": statesOf,
}

// view is what the page shows: the status, and what is only summed up in it.
type view struct {
	Status
	Notices []notice
	Total   totals
}

// notice is what wants a look, and where on the page more of it stands.
type notice struct{ Link, Text string }

// totals are the numbers at the top.
type totals struct {
	Connections      int
	PerSecond        float64
	LastMinute       Handshakes
	Up, Known, Alive int // addresses that are up, all, and backends with one that is up
}

func viewOf(s Status) view {
	v := view{Status: s}
	for _, l := range s.Listeners {
		v.Total.Connections += l.Connections
		v.Total.PerSecond += l.HandshakesPerSecond
		v.Total.LastMinute = v.Total.LastMinute.plus(l.LastMinute)
	}
	if s.Configuration.Refused != "" {
		v.notice("#configuration", "The last reload was refused; the configuration before it stays in force.")
	}
	for _, b := range s.Backends {
		up := 0
		for _, a := range b.Addresses {
			v.Total.Known++
			if a.State == "up" {
				up++
			}
		}
		v.Total.Up += up
		if up > 0 {
			v.Total.Alive++
		}
		if up < len(b.Addresses) || up == 0 {
			v.notice("#backends", "Backend "+b.Name+": "+strconv.Itoa(up)+" of "+count(len(b.Addresses), "address is", "addresses are")+" up.")
		}
	}
	if s.Certificates.Fault != "" {
		v.notice("#domains", "The certificate directory can not be listed.")
	}
	if n := s.Certificates.States.Broken; n > 0 {
		v.notice(Query{State: Broken, PerPage: perPage}.link(1), count(n, "certificate folder is broken.", "certificate folders are broken."))
	}
	if n := s.Certificates.States.Expired; n > 0 {
		v.notice(Query{State: Expired, PerPage: perPage}.link(1), count(n, "folder's certificate has expired.", "folders' certificates have expired."))
	}
	return v
}

func (v *view) notice(link, text string) { v.Notices = append(v.Notices, notice{link, text}) }

// Uptime is how long the program has run.
func (v view) Uptime() time.Duration { return time.Duration(v.UptimeSeconds) * time.Second }

// Link leads to another page of the same domains.
func (d Domains) Link(page int) string { return d.link(page) }

// First and Last are the numbers of the domains shown.
func (d Domains) First() int { return min(d.Matches, (d.Page-1)*d.PerPage+1) }

// Last is the number of the last one shown.
func (d Domains) Last() int { return min(d.Matches, d.Page*d.PerPage) }

// Before and After are the neighbours of the page; 0 is none.
func (d Domains) Before() int { return d.Page - 1 }

// After is the next page.
func (d Domains) After() int {
	if d.Page < d.Pages {
		return d.Page + 1
	}
	return 0
}

// Filtered tells whether not all domains were asked for.
func (d Domains) Filtered() bool { return d.Search != "" || d.State != "" }

func writePage(w io.Writer, s Status) error { return page().Execute(w, viewOf(s)) }

// ago tells in words how long before now something was. It takes a time or a
// pointer to one.
func ago(now time.Time, then any) string {
	return since(now, then) + " ago"
}

func since(now time.Time, then any) string { return span(now.Sub(moment(then))) }

func moment(t any) time.Time {
	switch t := t.(type) {
	case time.Time:
		return t
	case *time.Time:
		if t != nil {
			return *t
		}
	}
	return time.Time{}
}

// left tells in words how long there is until a time.
func left(now time.Time, then any) string {
	if d := moment(then).Sub(now); d > 0 {
		return "in " + span(d)
	}
	return ago(now, then)
}

// span is a duration in one unit, cut and not rounded: a certificate with 29.9
// days left has no 30.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return count(max(0, int(d/time.Second)), "second", "seconds")
	case d < 2*time.Hour:
		return count(int(d/time.Minute), "minute", "minutes")
	case d < 2*day:
		return count(int(d/time.Hour), "hour", "hours")
	}
	return count(int(d/day), "day", "days")
}

func count(n any, one, more string) string {
	text := thousands(n)
	if text == "1" {
		return text + " " + one
	}
	return text + " " + more
}

// thousands parts the digits of a number into threes.
func thousands(n any) string {
	var digits string
	switch n := n.(type) {
	case int:
		digits = strconv.Itoa(n)
	case uint64:
		digits = strconv.FormatUint(n, 10)
	}
	var parts []string
	for len(digits) > 3 {
		parts = append([]string{digits[len(digits)-3:]}, parts...)
		digits = digits[:len(digits)-3]
	}
	return strings.Join(append([]string{digits}, parts...), ",")
}

// percent is a share with one digit behind the point. What is more than
// nothing does not look like nothing, nor what is less than all like all.
func percent(share float64) string {
	switch {
	case share > 0 && share < 0.001:
		return "<0.1\u00a0%"
	case share < 1 && share > 0.999:
		return ">99.9\u00a0%"
	}
	return strings.TrimSuffix(strconv.FormatFloat(100*share, 'f', 1, 64), ".0") + "\u00a0%"
}

func rate(perSecond float64) string {
	if perSecond >= 100 {
		return thousands(int(perSecond + 0.5))
	}
	if perSecond > 0 && perSecond < 0.05 {
		return "<0.1"
	}
	return strconv.FormatFloat(perSecond, 'f', 1, 64)
}

func utc(t any) string { return moment(t).UTC().Format(time.RFC3339) }

func day(t any) string { return moment(t).UTC().Format(time.DateOnly) }

// bar is the length of a bar.
func bar(share float64) string { return strconv.FormatFloat(100*share, 'f', 2, 64) + "%" }

// mix is one of the tables of what handshakes agreed on.
type mix struct {
	Of     string
	Shares []Share
}

func mixOf(of string, shares []Share) mix { return mix{of, shares} }

// stateCount is a state to choose, and how many folders are in it.
type stateCount struct {
	Name  string
	Count int
}

func statesOf(s States) []stateCount {
	return []stateCount{{Broken, s.Broken}, {Expired, s.Expired}, {Expiring, s.Expiring}, {Valid, s.Valid}, {Unread, s.Unread}}
}

// mode is how a listener begins.
func mode(l Listener) string {
	if l.STARTTLS != "" {
		return "STARTTLS, " + l.STARTTLS
	}
	return "implicit TLS"
}

func prefixes(all []netip.Prefix) string {
	var texts []string
	for _, p := range all {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ", ")
}

// tone is the colour of a state, as a class of the style sheet.
func tone(state string) string {
	switch state {
	case "up", Valid:
		return "good"
	case Expiring:
		return "warn"
	case "down", Broken, Expired:
		return "bad"
	}
	return "none"
}

// mark goes with each tone, so that it is not told by colour alone.
func mark(state string) string {
	return map[string]string{"good": "✓", "warn": "!", "bad": "✕", "none": "?"}[tone(state)]
}
