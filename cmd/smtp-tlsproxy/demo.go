package main

import (
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/demo"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// demoConfig is the configuration of the demo: a folder, four ports, and the
// port of its backend are filled in.
//
//go:embed demo.yaml
var demoConfig string

// demoOptions are the flags of the demo.
type demoOptions struct {
	submissions, submission, mx, admin int
	once                               bool
}

func demoCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job with no set-up",
		Long: `Show the main job with no set-up: make certificates for localhost,
a.localhost and b.localhost in a temporary folder, start a mail server that
prints each message with what the PROXY header told it, put the proxy in front
of it, send two messages through, and wait for yours. Nothing leaves the
machine, and nothing stays on it.`,
		Args: cobra.NoArgs,
	}
	var o demoOptions
	c.Flags().IntVar(&o.submissions, "submissions-port", 4465, "`PORT` for implicit TLS; 0 for a free one")
	c.Flags().IntVar(&o.submission, "submission-port", 4587, "`PORT` for STARTTLS; 0 for a free one")
	c.Flags().IntVar(&o.mx, "mx-port", 4525, "`PORT` where STARTTLS is optional, as between mail servers; 0 for a free one")
	c.Flags().IntVar(&o.admin, "admin-port", 9465, "`PORT` for metrics and health")
	c.Flags().BoolVar(&o.once, "once", false, "end after the demo's own messages")
	c.RunE = doing(func(c *cobra.Command) error {
		signals := make(chan os.Signal, 2)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		defer signal.Stop(signals)
		return runDemo(o, c.OutOrStdout(), newLogging(c.ErrOrStderr()), signals)
	})
	return c
}

// runDemo shows the main job, and then serves until a signal comes.
func runDemo(o demoOptions, out io.Writer, log *logging, signals <-chan os.Signal) (err error) {
	dir, err := os.MkdirTemp("", "smtp-tlsproxy-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	caFile := filepath.Join(dir, "ca.pem")
	if err := demo.Certificates(filepath.Join(dir, "certs"), caFile); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	backend := demo.NewBackend(out)
	defer backend.Close()
	go func() { _ = backend.Serve(listener) }() // ends with Close

	file := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf(demoConfig, filepath.Join(dir, "certs"), o.submissions, o.submission, o.mx, listener.Addr(), o.admin)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	i := newInstance(log)
	defer i.close()
	if err := i.apply(cfg); err != nil {
		return fmt.Errorf("%w\nThe ports can be moved: smtp-tlsproxy demo --help", err)
	}
	go func() { _ = i.server.Serve() }() // ends with close
	i.started.Store(true)
	if err := i.showMainJob(out, dir, caFile); err != nil || o.once {
		return err
	}
	i.showCommands(out, cfg, caFile)
	<-signals
	fmt.Fprintln(out, "\nStopping.")
	return nil
}

// showMainJob sends a message with implicit TLS and one with STARTTLS, and tells what happened.
func (i *instance) showMainJob(out io.Writer, dir, caFile string) error {
	fmt.Fprintf(out, "Certificates for %s, %s and %s are in %s until the demo ends.\n", demo.Names[0], demo.Names[1], demo.Names[2], dir)
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, job := range []struct {
		listener, name, way string
		starttls            bool
	}{
		{"submissions", "a.localhost", "implicit TLS", false},
		{"submission", "b.localhost", "STARTTLS", true},
	} {
		address := i.server.Addr(job.listener).String()
		fmt.Fprintf(out, "\nSending mail for %s to %s with %s.\n", job.name, address, job.way)
		state, err := demo.Send(address, job.starttls, &tls.Config{ServerName: job.name, RootCAs: roots})
		if err != nil {
			return fmt.Errorf("the demo's own message over %s: %w", job.way, err)
		}
		fmt.Fprintf(out, "\nThe client got the certificate of %s, verified it, and spoke %s.\n",
			state.PeerCertificates[0].Subject.CommonName, tlsopts.Version(state.Version))
	}
	return nil
}

// showCommands prints lines to paste into another terminal.
func (i *instance) showCommands(out io.Writer, cfg *config.Config, caFile string) {
	implicit, starttls := i.server.Addr("submissions"), i.server.Addr("submission")
	fmt.Fprintf(out, `
Now you, from another terminal. A message, which appears here, with implicit TLS, with STARTTLS, and without TLS:

  swaks --server %[1]s --tls-on-connect --tls-sni a.localhost --to you@a.localhost
  swaks --server %[2]s --tls --tls-sni b.localhost --to you@b.localhost
  swaks --server %[5]s --to you@localhost

The certificate by server name:

  openssl s_client -connect %[1]s -servername a.localhost -CAfile %[3]s -verify_hostname a.localhost -brief </dev/null
  openssl s_client -connect %[2]s -starttls smtp -servername b.localhost -CAfile %[3]s -verify_hostname b.localhost -brief </dev/null

Metrics and health, and in a browser the status page at http://%[4]s/

  curl http://%[4]s/metrics
  curl http://%[4]s/readyz

Ctrl-C ends the demo.
`, implicit, starttls, caFile, cfg.Admin.Address, i.server.Addr("mx"))
}
