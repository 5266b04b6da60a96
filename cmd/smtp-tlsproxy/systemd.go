package main

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// inherited are the sockets that systemd passes, by FileDescriptorName=. They
// stay open for reloads that name them again.
type inherited map[string][]*os.File

// inheritSockets takes them out of the environment.
func inheritSockets() inherited {
	sockets := make(inherited)
	for _, file := range activation.Files(true) {
		sockets[file.Name()] = append(sockets[file.Name()], file)
	}
	return sockets
}

// open listens on all sockets of a name.
func (in inherited) open(name string) ([]net.Listener, error) {
	files := in[name]
	if len(files) == 0 {
		return nil, fmt.Errorf("systemd passes no socket of the name %q (FileDescriptorName=); %s", name, in.have())
	}
	var listeners []net.Listener
	for _, file := range files {
		l, err := net.FileListener(file)
		if tcp, ok := l.(*net.TCPListener); err == nil && (!ok || !isListening(tcp)) {
			l.Close()
			err = fmt.Errorf("it is not a TCP socket that listens: want ListenStream= with a port, and Accept=no")
		}
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return nil, fmt.Errorf("socket %q of systemd: %w", name, err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func (in inherited) have() string {
	if len(in) == 0 {
		return "it passes none at all: is a .socket unit enabled, and the program started by its .service?"
	}
	return "there are: " + strings.Join(slices.Sorted(maps.Keys(in)), ", ")
}

func isListening(l *net.TCPListener) bool {
	raw, err := l.SyscallConn()
	if err != nil {
		return false
	}
	listening := 0
	if raw.Control(func(fd uintptr) { listening, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN) }) != nil {
		return false
	}
	return err == nil && listening == 1
}

// opener is for proxy.Listener.Open: nil where the address is one to bind.
func (in inherited) opener(address string) func() ([]net.Listener, error) {
	name, ok := config.SystemdName(address)
	if !ok {
		return nil
	}
	return func() ([]net.Listener, error) { return in.open(name) }
}

// listen binds an address, or takes the sockets of systemd's that it names.
func (in inherited) listen(what, address string) ([]net.Listener, error) {
	open := in.opener(address)
	if open == nil {
		l, err := proxy.Bind(what, address)
		return []net.Listener{l}, err
	}
	listeners, err := open()
	if err != nil {
		return nil, fmt.Errorf("%s: address %s: %w", what, address, err)
	}
	return listeners, nil
}

// warnUnused tells of sockets whose clients nobody would ever answer.
func (in inherited) warnUnused(cfg *config.Config, log *logging) {
	used := make(map[string]bool)
	for _, l := range cfg.Listeners {
		name, _ := config.SystemdName(l.Address)
		used[name] = true
	}
	name, _ := config.SystemdName(cfg.Admin.Address)
	used[name] = true
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if !used[name] {
			log.Warn("systemd passes a socket that no listener names: its clients get no answer", "name", name)
		}
	}
}

// supervisor tells systemd how the program is (sd_notify(3)). Without systemd
// it says nothing.
type supervisor struct {
	log      *logging
	watchdog time.Duration // how often it wants to hear; 0 is never
	status   string        // told last
}

// statusEvery is how often the status line may change.
const statusEvery = 10 * time.Second

func supervise(log *logging) *supervisor {
	s := &supervisor{log: log}
	limit, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		log.Warn("the watchdog of systemd is not heard", "error", err)
	}
	s.watchdog = limit / 2
	return s
}

// tick is when there is something to tell again; nil is never.
func (s *supervisor) tick() (<-chan time.Time, func()) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil, func() {}
	}
	every := statusEvery
	if s.watchdog > 0 {
		every = min(every, s.watchdog)
	}
	ticker := time.NewTicker(every)
	return ticker.C, ticker.Stop
}

func (s *supervisor) tell(lines ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		s.log.Warn("systemd can not be told", "error", err)
	}
}

func (s *supervisor) ready(status string) { s.tell(daemon.SdNotifyReady, "STATUS="+status) }

// reloading wants ready behind it. systemd 253 and up tells by the time which
// reload it is that ends.
func (s *supervisor) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return
	}
	s.tell(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/int64(time.Microsecond)))
}

func (s *supervisor) stopping() { s.tell(daemon.SdNotifyStopping, "STATUS=shutting down") }

// alive tells the watchdog that all is well, and the status where it changed.
func (s *supervisor) alive(status string) {
	var lines []string
	if s.watchdog > 0 {
		lines = append(lines, daemon.SdNotifyWatchdog)
	}
	if status != s.status {
		s.status = status
		lines = append(lines, "STATUS="+status)
	}
	if len(lines) > 0 {
		s.tell(lines...)
	}
}
