package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func checkCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, every certificate, and what they name",
		Long: `Check the configuration file and every certificate in the directory that it
names; whether the addresses to listen on can be had, and whether the backends
greet behind a PROXY header. Every fault is printed with its place and what to
do about it, and the exit code is 1. Without a fault a summary is printed.
The proxy may be running meanwhile.`,
		Args: cobra.NoArgs,
	}
	configured := configFlag(c)
	var o checkOptions
	c.Flags().BoolVar(&o.offline, "offline", false, "do not try the addresses to listen on, nor the backends")
	c.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "print what the TLS options of each listener come to")
	c.RunE = doing(func(c *cobra.Command) error {
		from, err := configured()
		if err != nil {
			return err
		}
		return runCheck(c.Context(), from, o, c.OutOrStdout())
	})
	return c
}

// checkOptions are the flags of the command.
type checkOptions struct{ offline, verbose bool }

// check is one run of the command.
type check struct {
	config  *config.Config
	auths   []*tlsopts.ClientAuth // of the listeners; nil where it can not be read
	faults  []string
	notes   []string
	domains []domain
}

// domain is what the summary tells of a folder. The certificates themselves are
// not kept: there may be a hundred thousand.
type domain struct {
	folder string
	rows   []string
	own    folder // what its tls.yaml says
	ca     string // path of its ca.pem; empty for none
}

func runCheck(ctx context.Context, from source, o checkOptions, out io.Writer) error {
	cfg, err := from.load()
	if err != nil {
		fmt.Fprintln(out, err)
		return errTold
	}
	c := &check{config: cfg}
	c.clientAuths()
	c.certificates()
	c.listeners()
	c.files()
	if text := fewDescriptors(cfg.Limits.Connections, openFiles()); text != "" {
		c.notes = append(c.notes, c.placed(&cfg.Limits.Connections, &cfg.Limits, text))
	}
	if user := &cfg.Process.User; *user != "" {
		if _, err := findAccount(*user); err != nil {
			c.fault(user, err)
		}
	}
	if !o.offline {
		c.addresses()
		c.backends(ctx)
	}
	for _, note := range c.notes {
		fmt.Fprintln(out, "warning:", note)
	}
	if len(c.faults) > 0 {
		for _, fault := range c.faults {
			fmt.Fprintln(out, fault)
		}
		return errTold
	}
	if err := c.summary(out); err != nil || !o.verbose {
		return err
	}
	return c.describe(out)
}

// placed is a text with the place of a field, and without one where that has
// its default: such a field stands where its group does.
func (c *check) placed(field, group any, text string) string {
	at := c.config.FaultAt(field, text)
	if at == c.config.FaultAt(group, text) {
		return text
	}
	return at.String()
}

// fault adds what was found wrong with a field of the configuration.
func (c *check) fault(field any, err error) {
	c.faults = append(c.faults, c.config.FaultAt(field, err.Error()).String())
}

func (c *check) certificates() {
	from := &c.config.Certificates
	reports, err := c.reports()
	if err != nil {
		c.fault(&from.Directory, err)
		return
	}
	defaultFound := from.Default == ""
	for report := range reports {
		faults, warnings := c.findings(report)
		c.faults, c.notes = append(c.faults, faults...), append(c.notes, warnings...)
		if len(report.Certificates) == 0 {
			continue
		}
		defaultFound = defaultFound || report.Folder == from.Default
		c.domains = append(c.domains, c.domain(report))
	}
	if !defaultFound {
		c.fault(&from.Default, c.noDefault())
	}
	if from.Default == "" && len(c.domains) > 1 {
		c.notes = append(c.notes, c.config.FaultAt(&from.Default,
			"no default certificate: clients without a server name, or with an unknown one, can not be served").String())
	}
}

// reports reads the folders of the certificate directory, or those named alone.
func (c *check) reports(names ...string) (iter.Seq[sni.Report], error) {
	from, staple := &c.config.Certificates, sni.OCSPAuto
	if len(c.config.Listeners) > 0 { // there are none where a command has the directory alone
		staple = stapling(directoryOf(c.config).stapling)
	}
	return sni.Check(from.Directory, sni.Options{Default: from.Default, OCSP: staple, FolderOptions: readFolder}, names...)
}

// findings are what is wrong with a folder, a line each, fit to be shown:
// certificates have names that strangers chose.
func (c *check) findings(report sni.Report) (faults, warnings []string) {
	if report.Err != nil {
		faults = strings.Split(report.Err.Error(), "\n")
	}
	faults = append(faults, c.conflicts(report)...)
	warnings = slices.Clone(report.Warnings)
	for _, lines := range [][]string{faults, warnings} {
		for i, line := range lines {
			lines[i] = escape.Text(line, "")
		}
	}
	return faults, warnings
}

// noDefault tells that the default certificate can not be served.
func (c *check) noDefault() error {
	from := &c.config.Certificates
	return fmt.Errorf("the default certificate %q is not among the folders of %s that can be served", from.Default, from.Directory)
}

// domain keeps what the summary needs of a report.
func (c *check) domain(report sni.Report) domain {
	d := domain{folder: report.Folder}
	for _, cert := range report.Certificates {
		leaf := cert.Leaf
		d.rows = append(d.rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%d", report.Folder, names(leaf), tlsopts.KeyName(leaf.PublicKey),
			leaf.NotAfter.UTC().Format(time.DateOnly), daysLeft(leaf)))
	}
	own, ok := report.Options.(folder)
	if !ok {
		return d
	}
	d.own = own
	path := filepath.Join(c.config.Certificates.Directory, report.Folder)
	if report.ClientCA != nil {
		d.ca = filepath.Join(path, "ca.pem")
	}
	return d
}

// conflicts finds what of a folder's own options does not go with those of a
// listener.
func (c *check) conflicts(report sni.Report) (faults []string) {
	own, ok := report.Options.(folder)
	if !ok || len(report.Certificates) == 0 {
		return nil
	}
	for i, l := range c.config.Listeners {
		override := own.Override()
		_, err := override.TLS.Merge(l.TLS.Options()).Config()
		if auth := c.auths[i]; err == nil && auth != nil {
			err = override.ClientAuth(*auth, report.ClientCA).Apply(&tls.Config{})
		}
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s: with listener %s: %v", filepath.Join(c.config.Certificates.Directory, report.Folder, "tls.yaml"), l.Name, err))
		}
	}
	return faults
}

func (c *check) addresses() {
	for i := range c.config.Listeners {
		l := &c.config.Listeners[i]
		if _, systemd := config.SystemdName(l.Address); systemd {
			continue // systemd has bound it, or will
		}
		if err := proxy.CheckAddress("listener "+l.Name, l.Address); err != nil {
			c.fault(&l.Address, err)
		}
	}
	if a := &c.config.Admin; a.Address != config.AdminOff && !strings.HasPrefix(a.Address, "systemd:") {
		if err := proxy.CheckAddress("admin", a.Address); err != nil {
			c.fault(&a.Address, err)
		}
	}
}

// files reads what the backends name.
func (c *check) files() {
	_, err := backendsOf(c.config)
	if faults, ok := errors.AsType[config.Faults](err); ok {
		for _, fault := range faults {
			c.faults = append(c.faults, fault.String())
		}
	}
}

func (c *check) backends(ctx context.Context) {
	backends, err := backendsOf(c.config)
	if err != nil {
		return // told by files
	}
	for _, name := range slices.Sorted(maps.Keys(c.config.Backends)) {
		if err := proxy.CheckBackend(ctx, backends[name]); err != nil {
			c.fault(&c.config.Backends[name].Addresses, err)
		}
	}
}

// summary tells what would be served.
func (c *check) summary(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(cells ...any) { fmt.Fprintln(w, strings.TrimSuffix(fmt.Sprintln(cells...), "\n")) }
	row("LISTENER\tADDRESS\tMODE\tTLS\tBACKEND")
	for _, l := range c.config.Listeners {
		mode := string(l.Mode)
		if l.STARTTLS != "" {
			mode += ", " + string(l.STARTTLS)
		}
		if trusted := trustedOf(l); trusted != nil {
			mode += fmt.Sprintf(", PROXY header of %v", trusted)
		}
		row(fmt.Sprintf("%s\t%s\t%s\t%v to %v\t%s", l.Name, l.Address, mode, l.TLS.MinVersion, l.TLS.MaxVersion, l.Backend))
	}
	row("\nBACKEND\tADDRESSES\tCLIENT INFO")
	for _, name := range slices.Sorted(maps.Keys(c.config.Backends)) {
		b := c.config.Backends[name]
		info := string(b.ClientInfo)
		if b.TLS.Mode != config.BackendTLSNone {
			info += ", TLS " + string(b.TLS.Mode)
		}
		row(fmt.Sprintf("%s\t%s\t%s", name, strings.Join(b.Addresses, " "), info))
	}
	if len(c.config.Routes) > 0 {
		row("\nROUTE\tBACKEND")
	}
	for _, r := range c.config.Routes {
		row(fmt.Sprintf("%s\t%s", strings.Join(r.ServerNames, " "), r.Backend))
	}
	row("\nDOMAIN\tNAMES\tKEY\tEXPIRES\tDAYS LEFT")
	for _, d := range c.domains {
		for _, cells := range d.rows {
			row(cells)
		}
	}
	return w.Flush()
}
