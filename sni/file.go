package sni

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// maxFile is the largest file that is read. A chain with its intermediates is a
// few kB; encoding/pem and crypto/x509 took quadratic time on some large input
// (GO-2025-4009, GO-2025-4007).
const maxFile = 1 << 20

func (r *reading) has(name string) bool { return slices.Contains(r.names, name) }

// pathOf is where a file is for the operator. What is not absolute is seen from
// the folder.
func (r *reading) pathOf(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.path, name)
}

// file returns a file's content.
func (r *reading) file(name string) ([]byte, error) {
	shown := r.pathOf(name)
	real := shown
	if filepath.Base(name) == name { // of the folder: as it was when it was resolved
		real = filepath.Join(r.dir, name)
	}
	before, err := stampOf(real)
	r.look.add(shown, before)
	if err != nil {
		return nil, r.fault(name, err)
	}
	data, err := r.disk.readRegular(real, before)
	if err != nil {
		return nil, r.fault(name, err)
	}
	return data, nil
}

// fault is an error of a file of the folder, or of the folder itself.
func (r *reading) fault(name string, err error) error {
	return &FolderError{Folder: r.folder, Path: r.pathOf(name), Err: cause(err)}
}

func (d disk) readRegular(path string, before stamp) ([]byte, error) {
	switch {
	case !before.regular():
		return nil, errors.New("not a regular file")
	case before.size > maxFile:
		return nil, errTooLarge
	}
	f, err := d.open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One byte more than there should be finds the end at once; a file that
	// grew meanwhile, or was exchanged, is read to its own end.
	content := bytes.NewBuffer(make([]byte, 0, before.size+bytes.MinRead))
	if _, err := content.ReadFrom(io.LimitReader(f, maxFile+1)); err != nil {
		return nil, err
	}
	if content.Len() > maxFile {
		return nil, errTooLarge
	}
	return content.Bytes(), nil
}

var errTooLarge = fmt.Errorf("larger than %d bytes, which no chain or key is", maxFile)

// openNow opens for reading without waiting: a FIFO in place of a file would
// hang a plain open until somebody writes to it.
func openNow(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
}
