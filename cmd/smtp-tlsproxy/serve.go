package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/heapfloor"
)

func serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy in the foreground, logging to standard error.

A configuration file that was changed is read anew within seconds, and SIGHUP
reads it and the certificates at once; a faulty configuration changes nothing,
and the log says why. SIGTERM and SIGINT stop accepting clients, let open
transactions finish for at most timeouts.drain, and end with exit code 0; a
second one ends at once.`,
		Args: cobra.NoArgs,
	}
	configured := configFlag(c)
	c.RunE = doing(func(c *cobra.Command) error {
		from, err := configured()
		if err != nil {
			return err
		}
		// Two channels, or many SIGHUPs in a reload would crowd out a SIGTERM.
		stop, reload := make(chan os.Signal, 2), make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
		defer signal.Stop(stop)
		signal.Notify(reload, syscall.SIGHUP)
		defer signal.Stop(reload)
		i := newInstance(newLogging(c.ErrOrStderr()))
		return i.serve(from, confineProcess, stop, reload)
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
func (i *instance) serve(from source, p privileges, stop, hangup <-chan os.Signal) error {
	files := follow(i.log, fsnotify.NewWatcher, i.digestOf)
	defer files.close()
	i.files = files
	i.sockets = inheritSockets()
	systemd := supervise(i.log)
	// No signal may wait for the disk, which the start and reloads wait for.
	begun := make(chan error, 1)
	applied := make(chan struct{})
	go func() {
		defer close(applied)
		begun <- i.start(from, p)
	}()
	select {
	case err := <-begun:
		if err != nil {
			i.closeAfter(applied)
			return err
		}
	case <-stop:
		systemd.stopping()
		i.closeAfter(applied)
		i.log.Info("stopped before a client was served")
		return nil
	}
	served := make(chan error, 1)
	go func() { served <- i.server.Serve() }()
	i.started.Store(true)
	ended := make(chan struct{})
	defer close(ended)
	go i.sample(ended)
	systemd.ready(i.statusLine())
	tick, stopTick := systemd.tick()
	defer stopTick()

	var reloading chan struct{} // closed when it is over; nil while there is none
	reload := func(do func()) {
		done := make(chan struct{})
		reloading = done
		systemd.reloading()
		go func() {
			defer close(done)
			do()
		}()
	}
	defer func() { i.closeAfter(reloading) }()
	for {
		hangup, changed := hangup, files.changed
		if reloading != nil { // the next one waits
			hangup, changed = nil, nil
		}
		select {
		case err := <-served:
			return err
		case <-stop:
			systemd.stopping()
			return i.drain(stop, tick, systemd)
		case <-hangup:
			reload(func() { i.reload(from) })
		case <-changed:
			reload(func() { i.reloadChanged(from) })
		case <-reloading:
			reloading = nil
			systemd.ready(i.statusLine())
		case <-tick:
			systemd.alive(i.statusLine())
		}
	}
}

// start puts the first configuration into force.
func (i *instance) start(from source, p privileges) error {
	i.files.use(from.files(), time.Hour) // before it is read
	cfg, err := from.load()
	if err != nil {
		return err
	}
	i.files.use(filesOf(from, cfg), cfg.Certificates.Rescan)
	to, err := userOf(cfg)
	if err != nil {
		return err
	}
	heapfloor.Keep()
	i.log.follow(cfg.Log) // health checks may tell of something before all is in force
	if err := i.apply(cfg); err != nil {
		return err
	}
	if p == keepPrivileges {
		return nil
	}
	return i.confine(from, to)
}

// drain ends the proxy: not ready first, so that no new clients are sent here.
func (i *instance) drain(stop <-chan os.Signal, tick <-chan time.Time, systemd *supervisor) error {
	i.draining.Store(true)
	limit := i.shown.Load().config.Timeouts.Drain // a reload may be under way
	deadline := time.Now().Add(limit)
	i.process.DrainBegan(deadline)
	i.log.Info("shutting down: no new clients, and open transactions finish", "drain", limit)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- i.server.Shutdown(ctx) }()
	for {
		select {
		case err := <-done:
			if err != nil {
				i.log.Warn("sessions outlived the drain and were cut", "drain", limit)
			}
			i.log.Info("stopped")
			return nil
		case <-stop:
			return errCut // close cuts what is left
		case <-tick:
			systemd.alive("shutting down: " + i.statusLine())
		}
	}
}

// statusLine is what systemctl status shows. To get it takes the locks that
// clients need, so that the watchdog is not told that all is well where they
// are stuck.
func (i *instance) statusLine() string {
	line := fmt.Sprintf("%d clients connected", i.server.Connections())
	if refused := i.refused.Load(); refused != nil {
		line += "; the configuration file was refused, and the one before it is in force"
	}
	return line
}

// closeAfter ends what apply began, once the start or reload that may be under
// way has ended. If the disk hangs, the process ends with all it has open.
func (i *instance) closeAfter(applying <-chan struct{}) {
	ended := patiently(func() {
		if applying != nil {
			<-applying
		}
		i.close()
	})
	if ended {
		return
	}
	i.log.Warn("the disk does not answer, and the end does not wait for it")
	if i.started.Load() {
		patiently(func() { _ = i.server.Close() })
	}
}
