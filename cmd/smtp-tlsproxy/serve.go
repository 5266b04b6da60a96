package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/heapfloor"
)

func serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy in the foreground, logging to standard error.

SIGHUP reads the configuration and the certificates anew; a faulty
configuration changes nothing, and the log says why. SIGTERM and SIGINT stop
accepting clients, let open transactions finish for at most timeouts.drain,
and end with exit code 0; a second one ends at once.`,
		Args: cobra.NoArgs,
	}
	file := configFlag(c)
	c.RunE = doing(func(c *cobra.Command) error {
		// Two channels, or many SIGHUPs in a reload would crowd out a SIGTERM.
		stop, reload := make(chan os.Signal, 2), make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
		defer signal.Stop(stop)
		signal.Notify(reload, syscall.SIGHUP)
		defer signal.Stop(reload)
		i := newInstance(newLogging(c.ErrOrStderr()))
		return i.serve(*file, confineProcess, stop, reload)
	})
	return c
}

// privileges says what becomes of those of the process.
type privileges int

const (
	// confineProcess gives up what the configuration does not name.
	confineProcess privileges = iota
	// keepPrivileges is for a process that does something else besides, such as
	// a test.
	keepPrivileges
)

// errCut is the end by a second signal.
var errCut = errors.New("stopped by a second signal before all sessions had ended")

// serve runs the proxy until a signal on stop ends it.
func (i *instance) serve(file string, p privileges, stop, reload <-chan os.Signal) error {
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	to, err := userOf(cfg)
	if err != nil {
		return err
	}
	heapfloor.Keep()
	defer i.close()
	if err := i.apply(cfg); err != nil {
		return err
	}
	if p == confineProcess {
		if err := i.confine(file, to); err != nil {
			return err
		}
	}
	served := make(chan error, 1)
	go func() { served <- i.server.Serve() }()
	for {
		select {
		case err := <-served:
			return err
		case <-stop:
			return i.drain(stop)
		case <-reload:
			i.reload(file)
		}
	}
}

// drain ends the proxy: not ready first, so that no new clients are sent here.
func (i *instance) drain(stop <-chan os.Signal) error {
	i.draining.Store(true)
	i.log.Info("shutting down: no new clients, and open transactions finish", "drain", i.config.Timeouts.Drain)
	ctx, cancel := context.WithTimeout(context.Background(), i.config.Timeouts.Drain)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- i.server.Shutdown(ctx) }()
	select {
	case err := <-done:
		if err != nil {
			i.log.Warn("sessions outlived the drain and were cut", "drain", i.config.Timeouts.Drain)
		}
		i.log.Info("stopped")
		return nil
	case <-stop:
		return errCut // close cuts what is left
	}
}
