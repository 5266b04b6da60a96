// Package manpage writes a program's manual page, in the man macros of roff,
// from what the program knows of its commands. Only "make man" and the tests
// use it: nothing of it is in the program.
package manpage

import (
	"fmt"
	"io"
	"strings"
)

// Page is a manual page of section 1.
type Page struct {
	Name     string // of the program
	Short    string // what it is, in a line
	Long     string
	Date     string // as 2026-11-24
	Version  string
	Commands []Command
	Sections []Section // behind the commands
}

// Command is one command, or one below another: "certs list".
type Command struct {
	Name      string
	Arguments string // such as NAME…
	Long      string
	Flags     []Flag
}

// Flag is one flag of a command.
type Flag struct {
	Short, Long string // without hyphens; Short may be empty
	Value       string // what stands for its value; empty for none
	Usage       string
	Default     string // empty for none
}

// Section is text under a heading.
type Section struct{ Title, Text string }

// Write writes the page.
func (p Page) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 %q %q\n", quoted(strings.ToUpper(p.Name)), p.Date, p.Name+" "+p.Version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", text(p.Name), text(p.Short))
	b.WriteString(".SH SYNOPSIS\n")
	for i, c := range p.Commands {
		if i > 0 {
			b.WriteString(".br\n")
		}
		fmt.Fprintf(&b, ".B %s\n", text(p.Name+" "+c.Name))
		b.WriteString(strings.TrimSpace("[flags] "+text(c.Arguments)) + "\n")
	}
	b.WriteString(".SH DESCRIPTION\n")
	paragraphs(&b, p.Long)
	b.WriteString(".SH COMMANDS\n")
	for _, c := range p.Commands {
		fmt.Fprintf(&b, ".SS %s\n", text(strings.TrimSpace(c.Name+" "+c.Arguments)))
		paragraphs(&b, c.Long)
		for _, f := range c.Flags {
			f.write(&b)
		}
	}
	for _, s := range p.Sections {
		fmt.Fprintf(&b, ".SH %s\n", text(strings.ToUpper(s.Title)))
		paragraphs(&b, s.Text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (f Flag) write(b *strings.Builder) {
	b.WriteString(".TP\n")
	if f.Short != "" {
		fmt.Fprintf(b, "\\fB\\-%s\\fR, ", text(f.Short))
	}
	fmt.Fprintf(b, "\\fB\\-\\-%s\\fR", text(f.Long))
	if f.Value != "" {
		fmt.Fprintf(b, " \\fI%s\\fR", text(f.Value))
	}
	usage := f.Usage
	if f.Default != "" {
		usage += " (default " + f.Default + ")"
	}
	fmt.Fprintf(b, "\n%s\n", text(usage))
}

// paragraphs writes text with empty lines between its paragraphs. Lines that
// are indented stay as they are: they are to be typed.
func paragraphs(b *strings.Builder, all string) {
	first := true
	for paragraph := range strings.SplitSeq(strings.Trim(all, "\n"), "\n\n") {
		if !first {
			b.WriteString(".PP\n")
		}
		first = false
		literal := strings.HasPrefix(paragraph, " ") || strings.HasPrefix(paragraph, "\t")
		if literal {
			b.WriteString(".nf\n")
		}
		for line := range strings.SplitSeq(strings.TrimRight(paragraph, "\n"), "\n") {
			if strings.TrimSpace(line) != "" {
				b.WriteString(text(strings.ReplaceAll(strings.TrimRight(line, " "), "\t", "    ")) + "\n")
			}
		}
		if literal {
			b.WriteString(".fi\n")
		}
	}
}

// special are characters that mean something to roff, or that it takes for
// typographic ones, so that they could not be pasted.
var special = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`, "…", `...`, "→", `\(->`)

// text makes text fit for a line of roff. A dot or an apostrophe at its
// beginning would be a request.
func text(s string) string {
	s = special.Replace(s)
	if strings.HasPrefix(s, ".") {
		return `\&` + s
	}
	return s
}

func quoted(s string) string { return `"` + s + `"` }
