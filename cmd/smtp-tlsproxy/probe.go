package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/probe"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/terminal"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// probeFlags are the flags of the command.
type probeFlags struct {
	starttls, implicit bool
	ca                 string
	json, strict       bool
	probe.Options
}

func probeCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "probe HOST[:PORT]",
		Short: "Connect to a mail server as a client does, and tell what is wrong",
		Long: `Connect to a mail server as a mail client does, show each step, the TLS session,
the certificates and whether a client accepts them, what EHLO offers before and
under TLS, and what to mend. No mail and no password is sent.

Ports that end in 465 are probed with implicit TLS, all others with STARTTLS.
Without a port it is 465, or 587 with --starttls.

The exit code is 1 where a mail client would refuse the server, else 0; with
--strict it is 1 for warnings, too.`,
		Example: `  smtp-tlsproxy probe mail.example.com
  smtp-tlsproxy probe mail.example.com:587 --versions --sni
  smtp-tlsproxy probe 127.0.0.1:4465 --servername a.example --ca ca.pem
  smtp-tlsproxy probe [2001:db8::1]:25 --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("probe wants one HOST:PORT, and got %d", len(args))
			}
			return nil
		},
	}
	f := new(probeFlags)
	flags := c.Flags()
	flags.BoolVar(&f.starttls, "starttls", false, "begin in plain text and ask for TLS, whatever the port")
	flags.BoolVar(&f.implicit, "implicit", false, "begin with TLS, whatever the port")
	flags.StringVar(&f.ServerName, "servername", "", "server `NAME` to ask for and to want in the certificate (default HOST)")
	flags.StringVar(&f.ca, "ca", "", "PEM `FILE` with the authorities to trust in place of the system's")
	flags.StringSliceVar(&f.ALPN, "alpn", nil, "ALPN `NAMES` to offer; mail clients offer none")
	flags.StringVar(&f.EHLO, "ehlo", "", "domain `NAME` for EHLO (default our address, as [192.0.2.1])")
	flags.BoolVar(&f.All, "all", false, "probe every address of the host, not only the first that answers")
	flags.BoolVar(&f.Versions, "versions", false, "try each TLS version on a connection of its own")
	flags.BoolVar(&f.SNI, "sni", false, "see what is served without a server name and for an unknown one")
	flags.BoolVar(&f.Injection, "injection", false, "try whether a NOOP behind STARTTLS in one packet is executed under TLS (CVE-2011-0411)")
	flags.DurationVar(&f.Timeout, "timeout", probe.DefaultTimeout, "how long each step may take")
	flags.BoolVar(&f.json, "json", false, "print all that was found as JSON")
	flags.BoolVar(&f.strict, "strict", false, "exit code 1 for warnings, too")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := f.complete(args[0]); err != nil {
			return err
		}
		return doing(func(c *cobra.Command) error { return runProbe(c.Context(), f, c.OutOrStdout(), c.ErrOrStderr()) })(c, nil)
	}
	return c
}

// complete checks the flags; an error is one of usage.
func (f *probeFlags) complete(target string) (err error) {
	if f.Host, f.Port, err = probe.ParseTarget(target); err != nil {
		return err
	}
	switch {
	case f.starttls && f.implicit:
		return errors.New("--starttls and --implicit exclude each other")
	case f.starttls:
		f.Mode = probe.STARTTLS
	case f.implicit:
		f.Mode = probe.Implicit
	}
	if f.Timeout <= 0 {
		return fmt.Errorf("--timeout %v: want more than 0, such as 10s", f.Timeout)
	}
	if f.ServerName != "" {
		if err := probe.CheckName(f.ServerName); err != nil {
			return fmt.Errorf("--servername: %w", err)
		}
	}
	if strings.ContainsFunc(f.EHLO, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("--ehlo: want a domain name, or an address literal such as [192.0.2.1]")
	}
	for _, name := range f.ALPN {
		if name == "" || len(name) > 255 {
			return errors.New("--alpn: each name wants 1 to 255 bytes")
		}
	}
	if f.ca == "" {
		return nil
	}
	data, err := os.ReadFile(f.ca)
	if err != nil {
		return fmt.Errorf("--ca: %w", err)
	}
	authorities, err := tlsopts.ParseAuthorities(data)
	if err != nil {
		return fmt.Errorf("--ca: %s: %w", f.ca, err)
	}
	f.Roots, f.RootsName = authorities.Pool(), f.ca
	return nil
}

func runProbe(ctx context.Context, f *probeFlags, out, progress io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	waiting := terminal.New(progress).Waiting()
	f.Begins = waiting.For
	report := probe.Run(ctx, f.Options)
	waiting.Done()
	if err := f.print(report, out); err != nil {
		return err
	}
	if report.Verdict == probe.Refused || f.strict && report.Verdict == probe.Warned {
		return errTold
	}
	return nil
}

func (f *probeFlags) print(report *probe.Report, out io.Writer) error {
	if f.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(report)
	}
	return printReport(terminal.New(out), report)
}
