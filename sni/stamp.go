package sni

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// stamp is how a file looks from outside. Two that are equal are of the same
// content, unless it was written twice within one tick of the file system's
// clock; see look.settled. The time of change is in it, as a copy that keeps
// the time of modification (cp -p, rsync -t) may be of the same size, too.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // in nanoseconds since 1970
	mode         uint32
}

// stampOf looks at a file without opening it, following links.
func stampOf(path string) (stamp, error) {
	var st unix.Stat_t
	for {
		err := unix.Stat(path, &st)
		if errors.Is(err, unix.EINTR) { // on network file systems
			continue
		}
		if err != nil {
			return stamp{}, err
		}
		return stamp{
			dev: uint64(st.Dev), ino: uint64(st.Ino), size: st.Size, mode: uint32(st.Mode),
			mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
		}, nil
	}
}

func (s stamp) regular() bool { return s.mode&unix.S_IFMT == unix.S_IFREG }

// look is how a folder and the files in it that matter looked before they were
// read. It tells cheaply whether they are to be read again.
type look struct {
	at    time.Time // before any of them was opened
	files []seenFile
}

// seenFile has the path as the operator knows it, so that a link that was
// switched shows. A file that is missing has the zero stamp.
type seenFile struct {
	path  string
	stamp stamp
}

func (l *look) add(path string, s stamp) { l.files = append(l.files, seenFile{path, s}) }

// tick is the coarsest clock of a file system that is met: FAT's. Those of
// ext4, XFS and tmpfs tick with the kernel's timer, each 1 to 10 ms.
const tick = 2 * time.Second

// settled reports that every file was last changed at least a tick before it
// was read, so that no write can hide behind an equal stamp.
func (l *look) settled() bool {
	limit, now := l.at.Add(-tick).UnixNano(), l.at.Add(tick).UnixNano()
	for _, f := range l.files {
		// A time in the future is that of another machine's clock, or made up.
		if changed := max(f.stamp.mtime, f.stamp.ctime); changed > limit && changed < now {
			return false
		}
	}
	return true
}

// stands reports whether all looks as it did, with one stat for each file.
func (l *look) stands() bool {
	if l == nil || !l.settled() {
		return false
	}
	for _, f := range l.files {
		if now, _ := stampOf(f.path); now != f.stamp {
			return false
		}
	}
	return true
}
