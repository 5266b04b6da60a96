package sni

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"
)

// disk is the certificate directory as it lies on disk. All that this package
// opens goes through open, so that tests can count.
type disk struct {
	dir  string
	open func(path string) (*os.File, error)
}

func newDisk(dir string) disk { return disk{dir: filepath.Clean(dir), open: openNow} }

// list returns the names of the folders that can be served, sorted, and why
// others cannot. Having none is an error.
func (d disk) list() (folders []string, refused []*FolderError, err error) {
	f, err := d.open(d.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate directory %s: %w", d.dir, cause(err))
	}
	defer f.Close()
	for {
		// In parts, so that of a hundred thousand only the names stay in memory.
		found, err := f.ReadDir(1024)
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, syscall.ENOTDIR) {
			return nil, nil, fmt.Errorf("certificate directory %s: it is a file; name the directory that has a folder for each server name", d.dir)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("certificate directory %s: %w", d.dir, cause(err))
		}
		for _, each := range found {
			name := each.Name()
			if skipped(name) || !d.isFolder(each) {
				continue
			}
			if err := checkFolderName(name); err != nil {
				refused = append(refused, &FolderError{Folder: name, Path: filepath.Join(d.dir, name), Err: err})
				continue
			}
			folders = append(folders, name)
		}
	}
	slices.Sort(folders)
	folders, refused = d.refuseTwins(folders, refused)
	slices.SortFunc(refused, func(a, b *FolderError) int { return strings.Compare(a.Folder, b.Folder) })
	if len(folders) == 0 {
		return nil, refused, d.noFolders(refused)
	}
	return folders, refused, nil
}

// skipped reports names that are not meant as server names: hidden ones, among
// them the "..data" of a Kubernetes volume, and what mkfs leaves in a mount.
func skipped(name string) bool { return strings.HasPrefix(name, ".") || name == "lost+found" }

// isFolder follows symlinks: the folders of a Kubernetes projected volume and
// of /etc/letsencrypt/live may be links. Only those cost a stat.
func (d disk) isFolder(found fs.DirEntry) bool {
	if found.Type()&fs.ModeSymlink == 0 {
		return found.IsDir()
	}
	info, err := os.Stat(filepath.Join(d.dir, found.Name()))
	return err == nil && info.IsDir()
}

// refuseTwins takes out "_.example.com" where "*.example.com" is there too.
func (d disk) refuseTwins(sorted []string, refused []*FolderError) ([]string, []*FolderError) {
	kept := slices.DeleteFunc(slices.Clone(sorted), func(name string) bool {
		parent, ok := strings.CutPrefix(name, "_.")
		if !ok {
			return false
		}
		_, twin := slices.BinarySearch(sorted, "*."+parent)
		if twin {
			refused = append(refused, &FolderError{Folder: name, Path: filepath.Join(d.dir, name),
				Err: fmt.Errorf("the folder %q is the same wildcard and is served instead; remove one of the two", "*."+parent)})
		}
		return twin
	})
	return kept, refused
}

func (d disk) noFolders(refused []*FolderError) error {
	const want = "certificate directory %s: no folder to serve; make one for each server name, such as %s"
	err := fmt.Errorf(want, d.dir, filepath.Join(d.dir, "mail.example.com"))
	return errors.Join(append([]error{err}, first(refused)...)...)
}

// wildcardParent returns "example.com" for the folders "*.example.com" and
// "_.example.com".
func wildcardParent(folder string) (parent string, ok bool) {
	if parent, ok = strings.CutPrefix(folder, "*."); ok {
		return parent, true
	}
	return strings.CutPrefix(folder, "_.")
}

func isWildcard(folder string) bool {
	_, ok := wildcardParent(folder)
	return ok
}

// checkFolderName tells why no client can ask for the folder's name.
func checkFolderName(folder string) error {
	wanted, err := FolderName(folder)
	switch {
	case errors.Is(err, errUnicode) && wanted != "":
		return fmt.Errorf("%w: rename the folder to %q", err, wanted)
	case errors.Is(err, errUnicode):
		return fmt.Errorf("%w: rename the folder to that", err)
	case err != nil:
		return fmt.Errorf("%w: rename or remove the folder", err)
	case wanted != folder:
		return fmt.Errorf("server names are looked up in lower case: rename the folder to %q", wanted)
	}
	return nil
}

var (
	errUnicode = errors.New("not an A-label; clients ask for internationalised names in the xn-- form (RFC 5890 section 2.3.2.1)")
	errNoName  = errors.New("not a server name that a client can ask for (letters, digits, hyphens and dots, no IP address, no trailing dot)")
)

// FolderName returns how the folder of a server name, or of a wildcard such as
// "*.example.com" or "_.example.com", has to be called: in lower case. For a
// name with U-labels it returns an error together with the name in A-labels,
// which is "" where that is not known.
func FolderName(name string) (string, error) {
	if strings.ContainsFunc(name, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return aLabels(name), errUnicode
	}
	host := name
	if parent, ok := wildcardParent(name); ok {
		host = parent
	}
	if _, ok := ServerName(host); !ok {
		return "", errNoName
	}
	return strings.ToLower(name), nil
}

// maxListed is how many of many failures an error tells.
const maxListed = 5

func first[E error](errs []E) []error {
	var listed []error
	for _, err := range errs[:min(len(errs), maxListed)] {
		listed = append(listed, err)
	}
	if more := len(errs) - maxListed; more > 0 {
		listed = append(listed, fmt.Errorf("and %d more", more))
	}
	return listed
}
