package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/probe"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/terminal"
)

// page writes a report for people. Text of the server's is escaped in the
// report already.
type page struct {
	text strings.Builder
	out  terminal.Output
}

var levelColours = map[probe.Level]terminal.Colour{probe.OK: terminal.Good, probe.Note: terminal.Aside, probe.Warn: terminal.Doubt, probe.Fail: terminal.Bad}

// mark is a level in a column of its own.
func (p *page) mark(l probe.Level) string {
	return p.out.Paint(levelColours[l], fmt.Sprintf("%-4s", l))
}

func (p *page) line(format string, args ...any) {
	p.text.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// widest is how wide a column can grow before it is cut.
const widest = 44

// table writes rows below a head, with two spaces between the columns.
func (p *page) table(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = cut(cell)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString("  " + cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		p.line("%s", b.String())
	}
}

func cut(cell string) string {
	if runes := []rune(cell); len(runes) > widest {
		return string(runes[:widest-1]) + "…"
	}
	return cell
}

func printReport(out terminal.Output, r *probe.Report) error {
	p := &page{out: out}
	p.target(r)
	for i := range r.Sessions {
		p.session(&r.Sessions[i])
	}
	p.findings(r)
	p.verdict(r)
	_, err := io.WriteString(out, p.text.String())
	return err
}

var modeNames = map[probe.Mode]string{probe.Implicit: "implicit TLS", probe.STARTTLS: "STARTTLS"}

func (p *page) target(r *probe.Report) {
	t := r.Target
	how := modeNames[t.Mode]
	if t.PortFrom == "default" {
		how += " and port " + t.Port + ", as no port was given"
	} else if t.ModeFrom == "port" {
		how += ", as usual for the port"
	}
	p.line("%s port %s, server name %s (%s)", t.Host, t.Port, t.ServerName, how)
	if r.LookUp != nil {
		p.line("")
		p.step(*r.LookUp)
	}
}

func (p *page) step(s probe.Step) {
	took := ""
	if s.Name != "certificate" { // costs no waiting
		took = fmt.Sprintf("%.1f ms", s.DurationMS)
	}
	p.line("  %s  %-11s  %10s  %s", p.mark(s.Outcome), s.Name, took, s.Text)
}

func (p *page) session(s *probe.Session) {
	if len(s.Steps) > 0 && s.Steps[0].Outcome == probe.OK {
		p.line("")
	}
	for _, step := range s.Steps {
		p.step(step)
	}
	p.tls(s)
	p.chain(s)
	p.ehlo(s)
	p.tries(s)
}

func (p *page) tls(s *probe.Session) {
	t := s.TLS
	if t == nil {
		return
	}
	p.line("\nTLS")
	group := "none: RSA key exchange, without forward secrecy"
	if t.Group != "" {
		group = t.Group + " (not post-quantum)"
		if t.PostQuantum {
			group = t.Group + " (post-quantum)"
		}
	}
	alpn := "none offered, as mail clients do"
	if len(t.ALPNOffered) > 0 {
		alpn = fmt.Sprintf("offered %s; the server chose %s", strings.Join(t.ALPNOffered, ", "), orNone(t.ALPN))
	}
	staple := "none"
	switch {
	case t.OCSP.Good:
		staple = "good until " + t.OCSP.Until.Format(time.RFC3339)
	case t.OCSP.Stapled:
		staple = "not good: " + t.OCSP.Text
	}
	for _, row := range [][2]string{
		{"version", t.Version}, {"cipher", t.Cipher}, {"group", group}, {"server name", "sent " + orNone(t.ServerNameSent)}, {"ALPN", alpn},
		{"tickets", map[bool]string{true: "sent", false: "not sent"}[t.SessionTicket]}, {"OCSP staple", staple},
		{"client", map[bool]string{true: "asked for a certificate", false: "not asked for a certificate"}[t.ClientCertificateRequested]},
	} {
		p.line("  %-11s  %s", row[0], row[1])
	}
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// shownNames is how many names of the leaf are printed.
const shownNames = 6

func (p *page) chain(s *probe.Session) {
	if len(s.Chain) == 0 {
		return
	}
	p.line("\nCertificates as sent")
	rows := [][]string{{"#", "SUBJECT", "ISSUER", "KEY", "SIGNATURE", "NOT BEFORE", "NOT AFTER", "DAYS LEFT"}}
	for i, c := range s.Chain {
		rows = append(rows, []string{fmt.Sprint(i + 1), c.Subject, c.Issuer, c.Key, c.Signature, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly), fmt.Sprint(c.DaysLeft)})
	}
	p.table(rows)
	leaf := s.Chain[0]
	names := strings.Join(leaf.Names[:min(len(leaf.Names), shownNames)], ", ")
	if leaf.NameCount > shownNames {
		names += fmt.Sprintf(" and %d more", leaf.NameCount-shownNames)
	}
	p.line("  names   %s", orNone(names))
	p.line("  TLSA    %s", leaf.TLSA)
	if s.Verified != nil && len(s.Verified.Path) > 0 {
		p.line("  path    %s", strings.Join(s.Verified.Path, " ← "))
	}
}

// ehlo puts what is offered before and under TLS side by side.
func (p *page) ehlo(s *probe.Session) {
	plain, secure := s.EHLOPlain.Keywords(), s.EHLOSecure.Keywords()
	if len(plain)+len(secure) == 0 {
		return
	}
	p.line("\nEHLO keywords")
	if s.EHLOPlain == nil {
		p.line("  %s", strings.Join(secure, "\n  "))
		return
	}
	rows := [][]string{{"BEFORE TLS", "UNDER TLS"}}
	used := make([]bool, len(secure))
	for _, line := range plain {
		beside := ""
		for i, other := range secure {
			if !used[i] && probe.Keyword(other) == probe.Keyword(line) {
				beside, used[i] = other, true
				break
			}
		}
		rows = append(rows, []string{line, beside})
	}
	for i, line := range secure {
		if !used[i] {
			rows = append(rows, []string{"", line})
		}
	}
	p.table(rows)
}

func (p *page) tries(s *probe.Session) {
	if s.Versions != nil {
		p.line("\nTLS versions, each alone")
		for _, v := range s.Versions {
			p.line("  %-8s  %-8s  %s", v.Version, map[bool]string{true: "accepted", false: "refused"}[v.Accepted], v.Text)
		}
	}
	if s.SNI != nil {
		p.line("\nOther server names")
		for _, n := range s.SNI {
			name, text := "none", n.Text
			if n.ServerName != "" {
				name = "unknown"
			}
			switch {
			case !n.Accepted:
				text = "refused: " + text
			case n.Same:
				text = "the same certificate"
			default:
				text = "another certificate: " + text
			}
			p.line("  %-8s  %s", name, text)
		}
	}
	if s.Injection != nil {
		p.line("\nNOOP behind STARTTLS in one packet\n  %s", s.Injection.Text)
	}
}

func (p *page) findings(r *probe.Report) {
	if len(r.Findings) == 0 {
		return
	}
	p.line("\nFindings")
	for _, f := range r.Findings {
		where := ""
		if len(r.Sessions) > 1 && len(f.Addresses) > 0 {
			where = strings.Join(f.Addresses, ", ") + ": "
		}
		p.line("  %s  %s%s", p.mark(f.Level), where, f.Text)
		if f.Mend != "" {
			p.line("        %s", f.Mend)
		}
	}
}

func (p *page) verdict(r *probe.Report) {
	level, text := probe.OK, "a mail client accepts this server"
	switch r.Verdict {
	case probe.Refused:
		level, text = probe.Fail, "a mail client can not use this server"
		if slices.ContainsFunc(r.Sessions, func(s probe.Session) bool { return s.TLS != nil }) {
			text = "a mail client would refuse this server"
		}
		if r.Findings[0].ID == "injection" {
			text = "this server is open to attack"
		}
	case probe.Warned:
		level, text = probe.Warn, "a mail client accepts this server, with warnings"
	}
	p.line("\n%s  %s", p.mark(level), text)
}
