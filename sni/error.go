package sni

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrNoFolder is returned by Store.Certificate for a Match of Kind None.
var ErrNoFolder = errors.New("no certificate folder for this server name")

// FolderError tells why a folder cannot be served. Its text names the path,
// the cause and, where it is not plain, the mend; it never has key bytes.
type FolderError struct {
	Folder string // name of the folder within the directory
	Path   string // path of the file at fault, or of the folder
	Err    error  // the cause

	alone bool // nothing may stand in for the folder
}

// Error returns the path and the cause.
func (e *FolderError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *FolderError) Unwrap() error { return e.Err }

// cause strips the path of an error of package os, which FolderError names
// itself: a Kubernetes swap changes the resolved path each time, and the same
// failure would look like a new one.
func cause(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; make it readable for user id %d", err, os.Geteuid())
	}
	return err
}
