package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// secrets are the session ticket keys and key logs that the listeners of a
// configuration share. The nil value has none.
type secrets struct {
	tickets map[config.SessionTickets]*tlsopts.Tickets // by the settings but for the context
	keyLogs map[string]*keyLog                         // by path
}

// openSecrets opens what the listeners of a configuration need, and takes over
// what the configuration before it has open already. With an error it returns
// what it opened until then.
func openSecrets(cfg *config.Config, before *secrets, log *logging) (*secrets, error) {
	s := &secrets{tickets: make(map[config.SessionTickets]*tlsopts.Tickets), keyLogs: make(map[string]*keyLog)}
	var errs []error
	for _, l := range cfg.Listeners {
		errs = append(errs, s.openTickets(l.TLS.SessionTickets, before, log), s.openKeyLog(l.TLS.KeyLogFile, before))
	}
	return s, errors.Join(errs...)
}

// key tells tickets apart that can not share their keys.
func key(t config.SessionTickets) config.SessionTickets {
	t.Context = ""
	return t
}

func (s *secrets) openTickets(t config.SessionTickets, before *secrets, log *logging) (err error) {
	k := key(t)
	if !t.Enabled || s.tickets[k] != nil {
		return nil
	}
	if before != nil && before.tickets[k] != nil {
		s.tickets[k] = before.tickets[k]
		return tryTickets(t)
	}
	opened, err := tlsopts.OpenTickets(tlsopts.TicketOptions{
		SecretFile: t.SecretFile, Rotate: t.Rotate, Lifetime: t.Lifetime,
		Changed: func(n int) { log.Info("session ticket secrets changed", "file", t.SecretFile, "secrets", n) },
		Failed: func(err error) {
			log.Error("session ticket secrets can not be read; those read last stay in use", "file", t.SecretFile, "error", err)
		},
	})
	if err == nil {
		s.tickets[k] = opened
	}
	return err
}

// tryTickets tells whether the secrets can be read, and has nobody use them.
func tryTickets(t config.SessionTickets) error {
	tried, err := tlsopts.OpenTickets(tlsopts.TicketOptions{SecretFile: t.SecretFile, Rotate: t.Rotate, Lifetime: t.Lifetime, Poll: -1})
	if err != nil {
		return err
	}
	return tried.Close()
}

// renew reads the files of ticket secrets anew: who asks for a reload does not
// want to wait for the watch. It is called once nothing can fail any more, as a
// reload that is refused leaves the keys as they were.
func (s *secrets) renew(log *logging) {
	for t, tickets := range s.tickets {
		if err := tickets.Reload(); err != nil {
			log.Error("session ticket secrets can not be read; those read last stay in use", "file", t.SecretFile, "error", err)
		}
	}
}

func (s *secrets) openKeyLog(path string, before *secrets) error {
	if path == "" || s.keyLogs[path] != nil {
		return nil
	}
	if before != nil && before.keyLogs[path] != nil {
		s.keyLogs[path] = before.keyLogs[path]
		return nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("key_log_file: %w", err)
	}
	s.keyLogs[path] = &keyLog{file}
	return nil
}

// keyLog is a file in whose writing no handshake may fail: not of a session that
// began before the file was closed, and not where the disk is full.
type keyLog struct{ *os.File }

func (k *keyLog) Write(line []byte) (int, error) {
	_, _ = k.File.Write(line) // it is for debugging, and mail goes on
	return len(line), nil
}

func (s *secrets) ticketsOf(t config.SessionTickets) *tlsopts.Tickets { return s.tickets[key(t)] }

// keyLogOf returns nil, and not a nil *keyLog, where there is none.
func (s *secrets) keyLogOf(path string) io.Writer {
	if file := s.keyLogs[path]; file != nil {
		return file
	}
	return nil
}

// closeBut closes what other does not have, too. Sessions that began with it
// end as they are; tickets of it do not resume any more.
func (s *secrets) closeBut(other *secrets) {
	if s == nil {
		return
	}
	var unused []io.Closer
	for k, t := range s.tickets {
		if other == nil || other.tickets[k] != t {
			unused = append(unused, t)
		}
	}
	for path, file := range s.keyLogs {
		if other == nil || other.keyLogs[path] != file {
			unused = append(unused, file)
		}
	}
	patiently(func() {
		for _, closer := range unused {
			_ = closer.Close()
		}
	})
}

// clientAuthOf reads the authorities that a configuration names, also beside the
// mode none: folders with another mode inherit them.
func clientAuthOf(c config.ClientAuth) (tlsopts.ClientAuth, error) {
	auth := tlsopts.ClientAuth{Mode: c.Mode, Pins: c.Pins}
	if c.CA == "" {
		return auth, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return auth, err
	}
	if auth.CA, err = tlsopts.ParseAuthorities(pem); err != nil {
		return auth, fmt.Errorf("%s: %w", c.CA, err)
	}
	return auth, nil
}
