package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	sys "github.com/landlock-lsm/go-landlock/landlock/syscall"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// confinement is what the process gave up at its start. It can not be taken
// back, so a reload that would need it is refused.
type confinement struct {
	process config.Process
	reach   *reach // nil without Landlock
}

// reach is what can be opened once Landlock is in force: for reading with all
// that lies below, and for writing.
type reach struct{ read, write []string }

// prSetNoNewPrivs is PR_SET_NO_NEW_PRIVS of prctl(2).
const prSetNoNewPrivs = 38

// confine gives up, in all threads, what the proxy does not need once its
// addresses are bound and its files are open.
func (i *instance) confine(from source, to *account) error {
	cfg := i.config
	// The system's authorities are read once in a process, at the first
	// certificate of a backend or responder. They may lie anywhere
	// (SSL_CERT_FILE), and links lead to them. Where there are none, who needs
	// them says so.
	_, _ = x509.SystemCertPool()
	var are credentials
	if to != nil {
		var err error
		if are, err = to.become(); err != nil {
			return err
		}
	}
	if err := sys.AllThreadsPrctl(prSetNoNewPrivs, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting PR_SET_NO_NEW_PRIVS: %w", err)
	}
	now := &confinement{process: cfg.Process}
	if cfg.Process.Landlock {
		var err error
		if now.reach, err = i.landlock(from); err != nil {
			return fmt.Errorf("process.landlock: %w", err)
		}
	}
	i.confined.Store(now)
	if to == nil {
		return nil
	}
	i.log.Info("the program has no rights but those of its user now", "user", to.name, "uid", are.uids[1], "gid", are.gids[1], "groups", are.groups)
	return checkReadable(cfg, to)
}

// landlock makes everything unreachable that the configuration does not name.
func (i *instance) landlock(from source) (*reach, error) {
	abi, err := sys.LandlockGetABIVersion()
	if err != nil || abi < 1 {
		i.log.Info("landlock is not there: the kernel has none, or it is not enabled at boot; files are guarded by their permissions alone", "error", err)
		return nil, nil
	}
	r := reachOf(from, i.config)
	const reading, writing = sys.AccessFSReadFile | sys.AccessFSReadDir, sys.AccessFSWriteFile | sys.AccessFSTruncate
	rules := []landlock.Rule{landlock.PathAccess(writing, r.write...).IgnoreIfMissing()}
	for _, path := range r.read {
		rights := landlock.AccessFSSet(reading)
		if !isDirectory(path) {
			rights = sys.AccessFSReadFile
		}
		rules = append(rules, landlock.PathAccess(rights, path).IgnoreIfMissing())
	}
	// What later versions restrict are connections, which the proxy lives by.
	if err := landlock.V5.BestEffort().RestrictPaths(rules...); err != nil {
		return nil, err
	}
	i.log.Info("landlock restricts the program to the files that the configuration names", "abi", abi)
	i.log.Debug("landlock", "read", r.read, "write", r.write)
	return r, nil
}

// checkReadable tells at once what would fail at the first renewal or reload.
func checkReadable(cfg *config.Config, to *account) error {
	from := cfg.Certificates
	store, err := sni.Open(from.Directory, sni.Options{Default: from.Default, OCSP: sni.OCSPOff, FolderOptions: readFolder})
	if err == nil {
		return store.Close()
	}
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	text := fmt.Sprintf("user %s can not read the certificates: %v: give a group of it the right, as with \"chgrp -R %d %s\" and \"chmod -R g+rX %s\"",
		to.name, err, to.gid, from.Directory, from.Directory)
	return config.Faults{cfg.FaultAt(&cfg.Certificates.Directory, text)}
}

// permits tells whether a configuration can come into force in spite of what
// the process gave up at its start.
func (i *instance) permits(cfg *config.Config) error {
	now := i.confined.Load()
	if now == nil {
		return nil
	}
	if cfg.Process != now.process {
		return config.Faults{cfg.FaultAt(&cfg.Process, "process is set at the start only: restart the program for another user or landlock")}
	}
	if now.reach == nil {
		return nil
	}
	var faults config.Faults
	refuse := func(field *string) {
		faults = append(faults, cfg.FaultAt(field, fmt.Sprintf(
			"%s: Landlock keeps the program from what the configuration did not name at the start, and can not be widened: restart the program", *field)))
	}
	if c := &cfg.Certificates; !now.reach.reads(c.Directory) {
		refuse(&c.Directory)
	}
	for k := range cfg.Listeners {
		t := &cfg.Listeners[k].TLS
		for _, path := range []*string{&t.ClientAuth.CA, &t.SessionTickets.SecretFile} {
			if *path != "" && !now.reach.reads(*path) {
				refuse(path)
			}
		}
		if t.KeyLogFile != "" && !slices.Contains(now.reach.write, t.KeyLogFile) {
			refuse(&t.KeyLogFile)
		}
	}
	for _, path := range filesOfBackends(cfg) {
		if !now.reach.reads(*path) {
			refuse(path)
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return faults
}

// whyDenied says what may keep a file of the certificates from being read,
// besides its permissions.
func (i *instance) whyDenied(err error) string {
	if now := i.confined.Load(); now == nil || now.reach == nil || !errors.Is(err, fs.ErrPermission) {
		return ""
	}
	return "; where its permissions are right, it is a link to where none led at the start, and Landlock keeps the program from it: restart the program"
}

// whyNotBound says what may keep an address from being bound in a reload.
func (i *instance) whyNotBound(err error) string {
	if now := i.confined.Load(); now == nil || now.process.User == "" || !errors.Is(err, syscall.EACCES) {
		return ""
	}
	return ", and process.user has given it up: restart the program"
}

// reads tells whether a path can be read, as far as Landlock goes. Of one that
// is not there, who opens it tells more.
func (r *reach) reads(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	return err != nil || slices.ContainsFunc(r.read, func(top string) bool { return isBelow(real, top) })
}
