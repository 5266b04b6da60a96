package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// account is a user of the system, as the kernel knows one.
type account struct {
	name     string // as it was named
	uid, gid int
	groups   []int
}

// userOf is whom the program is to become, nil where it stays who it is. It is
// asked before an address is bound: where another process serves there, a
// start that fails would take clients from it.
func userOf(cfg *config.Config) (*account, error) {
	name := &cfg.Process.User
	if *name == "" {
		return nil, nil
	}
	a, err := findAccount(*name)
	if err == nil {
		err = a.permitted()
	}
	if err != nil {
		return nil, config.Faults{cfg.FaultAt(name, err.Error())}
	}
	return a, nil
}

// findAccount looks up process.user: a name, a uid, or uid:gid.
func findAccount(name string) (*account, error) {
	if uid, gid, explicit := strings.Cut(name, ":"); explicit {
		return numericAccount(name, uid, gid)
	}
	found, err := user.Lookup(name)
	if _, numeric := strconv.Atoi(name); numeric == nil {
		if found, err = user.LookupId(name); err != nil {
			return nil, fmt.Errorf("no user has the uid %s: name its group as well, as uid:gid", name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: make the user with \"useradd --system %s\", or name another one", err, name)
	}
	a, err := numericAccount(name, found.Uid, found.Gid)
	if err != nil {
		return nil, err
	}
	groups, err := found.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %s: %w", name, err)
	}
	a.groups = nil
	for _, group := range groups {
		gid, err := strconv.Atoi(group)
		if err != nil {
			return nil, fmt.Errorf("groups of user %s: %w", name, err)
		}
		a.groups = append(a.groups, gid)
	}
	return a, nil
}

func numericAccount(name, uid, gid string) (*account, error) {
	a := &account{name: name}
	var errs [2]error
	a.uid, errs[0] = strconv.Atoi(uid)
	a.gid, errs[1] = strconv.Atoi(gid)
	a.groups = []int{a.gid}
	if a.uid == 0 {
		return nil, fmt.Errorf("user %s is root: name a user without rights", name)
	}
	return a, errors.Join(errs[:]...)
}

// permitted tells whether the program may become the user, or is that already
// and has nothing to give up.
func (a *account) permitted() error {
	if os.Geteuid() == 0 {
		return nil
	}
	now, err := currentCredentials()
	if err != nil {
		return err
	}
	if !now.isUser(a) {
		return fmt.Errorf("only root can become user %s, and the program runs as uid %d: start it as root, or leave process.user out and start it as that user (with systemd: User=)",
			a.name, os.Geteuid())
	}
	if surplus := now.surplus(a); surplus != "" {
		return fmt.Errorf("the program runs as user %s already, but with %s, which it can not give up: start it as root, or without that, or leave process.user out", a.name, surplus)
	}
	return nil
}

// become makes all threads the user's, for good. It returns what the kernel
// says that they are then.
func (a *account) become() (credentials, error) {
	if os.Geteuid() == 0 {
		for _, step := range []func() error{
			func() error { return syscall.Setgroups(a.groups) },
			func() error { return syscall.Setgid(a.gid) },
			func() error { return syscall.Setuid(a.uid) },
		} {
			if err := step(); err != nil {
				return credentials{}, fmt.Errorf("becoming user %s: %w: root needs the capabilities CAP_SETUID and CAP_SETGID for it (with systemd: CapabilityBoundingSet=)", a.name, err)
			}
		}
	}
	now, err := currentCredentials()
	if err != nil {
		return now, err
	}
	if !now.isUser(a) {
		return now, fmt.Errorf("becoming user %s: the kernel still has the uids %v", a.name, now.uids)
	}
	if surplus := now.surplus(a); surplus != "" { // as with SECBIT_NO_SETUID_FIXUP
		return now, fmt.Errorf("becoming user %s: the kernel left the program %s", a.name, surplus)
	}
	return now, nil
}
