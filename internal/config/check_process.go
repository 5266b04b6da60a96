package config

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// userName is what useradd and systemd take for a name; it is no number.
var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,255}$`)

func (s *source) checkProcess(p *Process) {
	if p.User == "" {
		return
	}
	uid, gid, withGID := strings.Cut(p.User, ":")
	isNumber := isID(uid) && (!withGID || isID(gid))
	switch {
	case p.User == "root" || isNumber && strings.Trim(uid, "0") == "":
		s.fault(&p.User, "%q is root: name a user without rights, or leave user out", p.User)
	case !isNumber && !userName.MatchString(p.User):
		s.fault(&p.User, "%q is not a user: want a name, a uid, or uid:gid", p.User)
	}
}

// isID tells a uid or gid. The highest number stands for none (chown(2)).
func isID(text string) bool {
	n, err := strconv.ParseUint(text, 10, 32)
	return err == nil && n < 1<<32-1
}

// checkWritable refuses a configuration file that every user of the machine
// could change: who writes it decides who gets the mail.
func checkWritable(file string, info fs.FileInfo) error {
	if anyoneWrites(info) && !readOnly(file) {
		return fmt.Errorf("%s can be written by every user of this machine: chmod o-w %[1]s", file)
	}
	folders, err := foldersOnTheWay(file)
	if err != nil {
		return err
	}
	for _, dir := range folders {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		// With the sticky bit, as /tmp has it, others can not replace what is there.
		// Kubernetes mounts a ConfigMap with mode 0777, and read-only.
		if anyoneWrites(info) && info.Mode()&fs.ModeSticky == 0 && !readOnly(dir) {
			return fmt.Errorf("%s lies in a folder where every user of this machine can replace it: chmod o-w %s", file, dir)
		}
	}
	return nil
}

// maxLinks is as many as the kernel follows.
const maxLinks = 40

// foldersOnTheWay are all those in which a name is looked up to open the file,
// also for links to it or to a folder: who can write one can put another file
// in its place.
func foldersOnTheWay(file string) (folders []string, err error) {
	if !filepath.IsAbs(file) {
		here, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		file = here + "/" + file // not cleaned: a link may stand before ".."
	}
	at, links := "/", 0 // at has no links
	names := strings.Split(file, "/")
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		if !slices.Contains(folders, at) {
			folders = append(folders, at)
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return nil, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if err != nil {
			return nil, err
		}
		if links++; links > maxLinks {
			return nil, fmt.Errorf("%s: %w", file, syscall.ELOOP)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		names = append(strings.Split(target, "/"), names...)
	}
	return folders, nil
}

func anyoneWrites(info fs.FileInfo) bool { return info.Mode().Perm()&0o002 != 0 }

// stReadOnly is ST_RDONLY of statfs(2).
const stReadOnly = 1

// readOnly tells whether a path is on a file system that is mounted read-only.
func readOnly(path string) bool {
	var fs syscall.Statfs_t
	return syscall.Statfs(path, &fs) == nil && fs.Flags&stReadOnly != 0
}
