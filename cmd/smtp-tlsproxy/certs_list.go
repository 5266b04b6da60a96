package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/terminal"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// listOptions are the flags of the command.
type listOptions struct {
	json     bool
	byExpiry bool
}

func certsListCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "list [NAME…]",
		Short: "List the domains with their certificates, expiry and faults",
		Long: `List the domains of the certificate directory, or those named: the names that
each certificate is for, its key, who signed it, when it expires, and what check
finds wrong with it. A row for each certificate, so a domain with several key
types has several. On a terminal it is a table, with the findings below; in a
pipe each row is one line with tabs between, and the findings at its end.
The exit code is 1 where there is a fault; a warning is none.`,
		Args: serverNames,
	}
	configured := directoryFlags(c)
	var o listOptions
	sort := c.Flags().String("sort", "name", "the `ORDER` of the rows: name or expiry")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON, for programs")
	_ = c.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions([]cobra.Completion{"name", "expiry"}, cobra.ShellCompDirectiveNoFileComp)) // it is there
	c.ValidArgsFunction = completeFolders(configured)
	list := doingWith(func(c *cobra.Command, args []string) error {
		cfg, err := configured()
		if err != nil {
			return err
		}
		ck := &check{config: cfg}
		ck.clientAuths() // whose faults are not the domains'
		return ck.list(folderNames(args), o, c.OutOrStdout(), c.ErrOrStderr())
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		o.byExpiry = *sort == "expiry"
		if *sort != "name" && !o.byExpiry {
			return fmt.Errorf("--sort %q: want name or expiry", *sort)
		}
		return list(c, args)
	}
	return c
}

// listing is one way to print domains. What is printed at once is kept nowhere.
type listing interface {
	add(domainStatus) error
	end(faults []string) error // of the directory
}

func (c *check) list(names []string, o listOptions, stdout, stderr io.Writer) error {
	reports, err := c.reports(names...)
	if err != nil {
		return err
	}
	out := terminal.New(stdout)
	var to listing = newTableListing(out, o.byExpiry)
	if o.json {
		to = newJSONListing(out, c.config.Certificates.Directory, o.byExpiry)
	}
	progress := terminal.New(stderr).Progress("folders read")
	from := &c.config.Certificates
	faulty, defaultFound := false, from.Default == "" || len(names) > 0
	for report := range reports {
		progress.Step()
		d := c.status(report)
		faulty = faulty || len(d.Faults) > 0
		defaultFound = defaultFound || report.Default && len(report.Certificates) > 0
		if err := to.add(d); err != nil {
			progress.Done()
			return err
		}
	}
	progress.Done()
	faults := []string{}
	if !defaultFound {
		faults = append(faults, escape.Text(c.config.FaultAt(&from.Default, c.noDefault().Error()).String(), ""))
	}
	if err := to.end(faults); err != nil {
		return err
	}
	if faulty || len(faults) > 0 {
		return errTold
	}
	return nil
}

// inOrder hands on what it gets: at once in the order of names, or at the end
// in that of dates.
type inOrder[T any] struct {
	byExpiry bool
	held     []dated[T]
	show     func(T) error
}

type dated[T any] struct {
	at    time.Time
	thing T
}

func (o *inOrder[T]) add(at time.Time, thing T) error {
	if !o.byExpiry {
		return o.show(thing)
	}
	o.held = append(o.held, dated[T]{at, thing})
	return nil
}

func (o *inOrder[T]) end() error {
	slices.SortStableFunc(o.held, func(a, b dated[T]) int { return a.at.Compare(b.at) })
	for _, each := range o.held {
		if err := o.show(each.thing); err != nil {
			return err
		}
	}
	return nil
}

// tableListing is for people, and for programs that read lines.
type tableListing struct {
	out      terminal.Output
	table    *terminal.Table
	rows     inOrder[[]terminal.Cell]
	findings []string // shown below the table, on a terminal
}

func newTableListing(out terminal.Output, byExpiry bool) *tableListing {
	header := []string{"DOMAIN", "NAMES", "KEY", "ISSUER", "EXPIRES", "DAYS LEFT", "STATE", "NOTES"}
	if !out.IsTerminal() {
		header = append(header, "FINDINGS")
	}
	l := &tableListing{out: out, table: out.Table(header...)}
	l.rows = inOrder[[]terminal.Cell]{byExpiry: byExpiry, show: func(cells []terminal.Cell) error {
		l.table.Row(cells...)
		return nil
	}}
	return l
}

var stateColours = map[string]terminal.Colour{stateOK: terminal.Good, stateWarning: terminal.Doubt, stateFault: terminal.Bad}

func (l *tableListing) add(d domainStatus) error {
	end := []terminal.Cell{{Text: d.State, Colour: stateColours[d.State]}, {Text: notes(d)}}
	findings := l.tell(d)
	if !l.out.IsTerminal() {
		end = append(end, terminal.Cell{Text: strings.Join(findings, "; ")})
	}
	if len(d.Certificates) == 0 {
		return l.rows.add(time.Time{}, append(terminal.Cells(d.Domain, "-", "-", "-", "-", "-"), end...))
	}
	for _, cert := range d.Certificates {
		cells := terminal.Cells(d.Domain, names(cert.leaf), tlsopts.KeyName(cert.leaf.PublicKey), issuerOf(cert.leaf),
			cert.NotAfter.Format(time.DateOnly), strconv.Itoa(cert.DaysLeft))
		switch days := &cells[len(cells)-1]; {
		case time.Now().After(cert.NotAfter):
			days.Colour = terminal.Bad
		case cert.DaysLeft <= int(expiringWithin/(24*time.Hour)):
			days.Colour = terminal.Doubt
		}
		if err := l.rows.add(cert.NotAfter, append(cells, end...)); err != nil {
			return err
		}
	}
	return nil
}

// tell returns the findings, and keeps them where they come below the table.
func (l *tableListing) tell(d domainStatus) []string {
	findings := slices.Clone(d.Faults)
	for _, warning := range d.Warnings {
		findings = append(findings, "warning: "+warning)
	}
	if !l.out.IsTerminal() {
		return findings
	}
	for _, fault := range d.Faults {
		l.findings = append(l.findings, l.out.Paint(terminal.Bad, "fault: ")+fault)
	}
	for _, warning := range d.Warnings {
		l.findings = append(l.findings, l.out.Paint(terminal.Doubt, "warning: ")+warning)
	}
	return nil
}

// notes are what a domain is besides.
func notes(d domainStatus) string {
	var all []string
	if d.Default {
		all = append(all, "default")
	}
	if len(d.Staged) > 0 {
		all = append(all, "key staged")
	}
	return strings.Join(all, ", ")
}

func (l *tableListing) end(faults []string) error {
	if err := l.rows.end(); err != nil {
		return err
	}
	if err := l.table.Flush(); err != nil {
		return err
	}
	for _, fault := range faults {
		l.findings = append(l.findings, l.out.Paint(terminal.Bad, "fault: ")+fault)
	}
	if len(l.findings) == 0 {
		return nil
	}
	separator := ""
	if l.out.IsTerminal() {
		separator = "\n"
	}
	_, err := fmt.Fprintln(l.out, separator+strings.Join(l.findings, "\n"))
	return err
}

// jsonListing is one document, written as it grows.
type jsonListing struct {
	to      *bufio.Writer
	domains inOrder[json.RawMessage]
}

func newJSONListing(out io.Writer, directory string, byExpiry bool) *jsonListing {
	l := &jsonListing{to: bufio.NewWriter(out)}
	name, _ := json.Marshal(directory) // text can always be written
	fmt.Fprintf(l.to, "{\"directory\":%s,\"domains\":[", name)
	separator := "\n"
	l.domains = inOrder[json.RawMessage]{byExpiry: byExpiry, show: func(domain json.RawMessage) error {
		_, err := fmt.Fprintf(l.to, "%s%s", separator, domain)
		separator = ",\n"
		return err
	}}
	return l
}

func (l *jsonListing) add(d domainStatus) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	return l.domains.add(d.firstExpiry(), text)
}

func (l *jsonListing) end(faults []string) error {
	if err := l.domains.end(); err != nil {
		return err
	}
	text, err := json.Marshal(faults)
	if err != nil {
		return err
	}
	fmt.Fprintf(l.to, "\n],\"faults\":%s}\n", text)
	return l.to.Flush()
}
