package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// credentials are what the kernel decides by what a process may do.
type credentials struct {
	uids, gids   [3]int // real, effective, saved
	groups       []int
	capabilities uint64 // permitted, of which the effective ones are a part
}

// currentCredentials asks the kernel for those of this thread; all have the
// same.
func currentCredentials() (c credentials, err error) {
	c.uids[0], c.uids[1], c.uids[2] = unix.Getresuid()
	c.gids[0], c.gids[1], c.gids[2] = unix.Getresgid()
	if c.groups, err = os.Getgroups(); err != nil {
		return c, fmt.Errorf("groups of the process: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return c, fmt.Errorf("capabilities of the process: %w", err)
	}
	c.capabilities = uint64(data[1].Permitted)<<32 | uint64(data[0].Permitted)
	return c, nil
}

func (c credentials) isUser(a *account) bool { return c.uids == [3]int{a.uid, a.uid, a.uid} }

// surplus says in words what the process has that the user has not, or lacks;
// "" is nothing.
func (c credentials) surplus(a *account) string {
	var has []string
	if c.gids != [3]int{a.gid, a.gid, a.gid} {
		has = append(has, fmt.Sprintf("the gids %v in place of %d", c.gids, a.gid))
	}
	// Whether the user's own group is among the others, too, makes no difference.
	if now, want := sorted(c.groups, c.gids[1]), sorted(a.groups, a.gid); !slices.Equal(now, want) {
		has = append(has, fmt.Sprintf("the groups %v in place of %v", now, want))
	}
	if c.capabilities != 0 {
		has = append(has, fmt.Sprintf("capabilities (CapPrm %016x)", c.capabilities))
	}
	return strings.Join(has, ", and with ")
}

func sorted(groups []int, own int) []int {
	ids := append(slices.Clone(groups), own)
	slices.Sort(ids)
	return slices.Compact(ids)
}
