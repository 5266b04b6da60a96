// Smtp-tlsproxy terminates TLS for mail servers, with a certificate for each
// server name, and passes plain SMTP on to a backend.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitFine  = 0
	exitFault = 1 // found in what was checked, or met at run time
	exitUsage = 2
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitFine
	}
	if _, met := errors.AsType[*faultError](err); met {
		if !errors.Is(err, errTold) {
			fmt.Fprintf(stderr, "smtp-tlsproxy: %v\n", err)
		}
		return exitFault
	}
	fmt.Fprintf(stderr, "smtp-tlsproxy: %v\nTry 'smtp-tlsproxy --help'.\n", err)
	return exitUsage
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "smtp-tlsproxy",
		Short: "TLS for mail servers, with certificates by server name",
		Long: `smtp-tlsproxy stands in front of a mail server. It terminates implicit TLS or
performs the STARTTLS exchange itself, picks each domain's certificate by SNI,
and passes plain SMTP on to the mail server with a PROXY protocol header that
tells who the client is.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          showHelp,
	}
	root.AddCommand(serveCommand(), demoCommand(), checkCommand(), certsCommand(), probeCommand(), healthcheckCommand(), versionCommand())
	return root
}

// faultError is an error of what a command did; every other error is one of
// how it was called.
type faultError struct{ error }

func (e *faultError) Unwrap() error { return e.error }

// errTold ends a command that has printed what is wrong.
var errTold = errors.New("faults were found")

// doing turns a function into the RunE of a command without arguments.
func doing(f func(c *cobra.Command) error) func(*cobra.Command, []string) error {
	return doingWith(func(c *cobra.Command, _ []string) error { return f(c) })
}

// doingWith turns a function into the RunE of a command with arguments.
func doingWith(f func(c *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		if err := f(c, args); err != nil {
			return &faultError{err}
		}
		return nil
	}
}

// showHelp is the RunE of a command that only has others below it.
func showHelp(c *cobra.Command, _ []string) error { return c.Help() }
