package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// clientAuths reads the authorities of the listeners.
func (c *check) clientAuths() {
	for i := range c.config.Listeners {
		from := &c.config.Listeners[i].TLS.ClientAuth
		auth, err := clientAuthOf(*from)
		if err != nil {
			c.fault(&from.CA, fmt.Errorf("client_auth.ca: %w", err))
			c.auths = append(c.auths, nil)
			continue
		}
		c.auths = append(c.auths, &auth)
	}
}

// listeners checks the files that the TLS options of the listeners name, and
// notes what of the options has no effect or is weak.
func (c *check) listeners() {
	for i := range c.config.Listeners {
		l := &c.config.Listeners[i]
		c.tickets(l)
		notes, err := l.TLS.Options().Notes()
		if err != nil {
			c.fault(&l.TLS, err) // what the environment refuses
			continue
		}
		for _, note := range notes {
			c.notes = append(c.notes, "listener "+l.Name+": "+note)
		}
		c.keyLog(l)
	}
	c.faults = distinct(c.faults)
	c.notes = distinct(c.notes)
}

// distinct is the lines in their order, each once: listeners share options.
func distinct(lines []string) []string {
	seen := make(map[string]bool, len(lines))
	return slices.DeleteFunc(lines, func(line string) bool {
		again := seen[line]
		seen[line] = true
		return again
	})
}

func (c *check) tickets(l *config.Listener) {
	t := &l.TLS.SessionTickets
	if !t.Enabled {
		return
	}
	if err := tryTickets(*t); err != nil {
		c.fault(&t.SecretFile, err)
		return
	}
	c.secrecy(t.SecretFile)
}

// keyLog looks whether the file could be opened, without making it.
func (c *check) keyLog(l *config.Listener) {
	file := l.TLS.KeyLogFile
	if file == "" {
		return
	}
	c.notes = append(c.notes, fmt.Sprintf("listener %s: key_log_file %s gets the secrets of every session: who can read it can read all mail", l.Name, file))
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(file)) // it is made there
	}
	switch {
	case err != nil:
		c.fault(&l.TLS.KeyLogFile, fmt.Errorf("key_log_file: %w", err))
	case info != nil && info.IsDir():
		c.fault(&l.TLS.KeyLogFile, fmt.Errorf("key_log_file: %s is a folder: name a file", file))
	}
	c.secrecy(file)
}

// secrecy notes a file of secrets that everyone can read.
func (c *check) secrecy(file string) {
	if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
		c.notes = append(c.notes, fmt.Sprintf("%s can be read by everyone (mode %04o): chmod 0600 it", file, info.Mode().Perm()))
	}
}

// describe prints what the TLS options of each listener come to, and those of
// the domains that have some of their own.
func (c *check) describe(out io.Writer) error {
	for _, l := range c.config.Listeners {
		fmt.Fprintf(out, "\nTLS OF LISTENER %s\n", l.Name)
		if err := describe(out, l.TLS.Options(), l.TLS.ClientAuth, l.TLS.Stapling); err != nil {
			return err
		}
		fmt.Fprintf(out, "%-14s%s\n%-14s%s\n%-14sat most %s\n", "unknown SNI", l.TLS.UnknownSNI,
			"resumption", describeTickets(l.TLS.SessionTickets), "handshake", l.TLS.HandshakeTimeout)
		for _, d := range c.domains {
			if d.own.Folder == nil {
				continue
			}
			auth := l.TLS.ClientAuth
			auth.Mode = cmp.Or(d.own.ClientAuth.Mode, auth.Mode)
			if d.own.ClientAuth.Pins != nil {
				auth.Pins = d.own.ClientAuth.Pins
			}
			auth.CA = cmp.Or(d.ca, auth.CA)
			fmt.Fprintf(out, "\nTLS OF DOMAIN %s ON LISTENER %s\n", d.folder, l.Name)
			if err := describe(out, d.own.Options().Merge(l.TLS.Options()), auth, cmp.Or(d.own.Stapling, l.TLS.Stapling)); err != nil {
				return err
			}
		}
	}
	return nil
}

func describe(out io.Writer, o tlsopts.Options, auth config.ClientAuth, stapling config.Stapling) error {
	lines, err := o.Describe()
	if err != nil {
		return err
	}
	lines = append(lines,
		fmt.Sprintf("%-14s%s", "client certs", describeClientAuth(auth)),
		fmt.Sprintf("%-14s%s", "OCSP stapling", stapling))
	_, err = fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

func describeClientAuth(a config.ClientAuth) string {
	parts := []string{string(a.Mode)}
	if a.Mode != tlsopts.ClientAuthNone {
		if a.CA != "" {
			parts = append(parts, "by "+a.CA)
		}
		if len(a.Pins) > 0 {
			parts = append(parts, fmt.Sprintf("%d pinned keys", len(a.Pins)))
		}
	}
	return strings.Join(parts, ", ")
}

func describeTickets(t config.SessionTickets) string {
	if !t.Enabled {
		return "off"
	}
	from := "a secret of this process"
	if t.SecretFile != "" {
		from = t.SecretFile
	}
	text := fmt.Sprintf("for %s, keys from %s change every %s", t.Lifetime, from, t.Rotate)
	if t.Context != "" {
		text += ", context " + t.Context
	}
	return text
}
