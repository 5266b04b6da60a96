package sni

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// Report is what Check found in one folder.
type Report struct {
	Folder       string
	Default      bool                 // it is served for want of a better one: see Options.Default
	Certificates []*tls.Certificate   // one or more, of different key types; empty if the folder cannot be served
	Options      any                  // as Identity.Options
	ClientCA     *tlsopts.Authorities // as Identity.ClientCA
	Staged       []StagedKey          // keys that wait for their certificates, also of a folder that cannot be served
	Warnings     []string             // served nevertheless, but to be mended; each begins with the path of a file
	Err          error                // *FolderErrors, joined: what cannot be served. Certificates has what can
}

// Check reads every folder of a certificate directory, those that a Store
// would refuse included, and reports on each in the order of names, those
// refused last. It keeps nothing in memory and asks no OCSP responder. Of the
// options it takes Default, FolderOptions and OCSP. The error is that of Open for a
// directory without any folder to serve.
//
// With names only the folders of those are read, as FolderName gives them; a
// wildcard stands for both ways to write it. One that is not there gets a
// report whose error wraps fs.ErrNotExist, behind all others.
//
// The sequence can be used again; it reads the folders anew, but not their list.
func Check(dir string, o Options, names ...string) (iter.Seq[Report], error) {
	d := newDisk(dir)
	folders, refused, err := d.list()
	if err != nil {
		return nil, err
	}
	if o.Default == "" && len(folders) == 1 {
		o.Default = folders[0] // as in an index
	}
	if len(names) > 0 {
		folders, refused = d.only(names, folders, refused)
	}
	return func(yield func(Report) bool) {
		if !d.checkAll(folders, o, yield) {
			return
		}
		for _, err := range refused {
			if !yield(Report{Folder: err.Folder, Err: err}) {
				return
			}
		}
	}, nil
}

// only keeps of what was listed the names that are asked for.
func (d disk) only(names, folders []string, refused []*FolderError) ([]string, []*FolderError) {
	wanted := make(map[string]bool, len(names)) // and whether it was found
	for _, name := range names {
		wanted[plainWildcard(name)] = false
	}
	other := func(folder string) bool {
		name := plainWildcard(folder)
		if _, asked := wanted[name]; !asked {
			return true
		}
		wanted[name] = true
		return false
	}
	folders = slices.DeleteFunc(folders, other)
	refused = slices.DeleteFunc(refused, func(e *FolderError) bool { return other(e.Folder) })
	for _, name := range names {
		if found := wanted[plainWildcard(name)]; !found {
			wanted[plainWildcard(name)] = true // told once
			refused = append(refused, &FolderError{Folder: name, Path: filepath.Join(d.dir, name), Err: errNoSuchFolder})
		}
	}
	return folders, refused
}

var errNoSuchFolder = noSuchFolder{errors.New("there is no such folder")}

// noSuchFolder reads better than fs.ErrNotExist, and is one.
type noSuchFolder struct{ error }

func (noSuchFolder) Is(target error) bool { return target == fs.ErrNotExist }

// plainWildcard is a folder's name with a wildcard as "*.".
func plainWildcard(folder string) string {
	if parent, ok := wildcardParent(folder); ok {
		return "*." + parent
	}
	return folder
}

// checkAll reads up to maxLoads folders side by side, and yields in their order.
// It returns false where yield did. Nothing runs any more when it returns.
func (d disk) checkAll(folders []string, o Options, yield func(Report) bool) bool {
	pending := make(chan chan Report, maxLoads-2) // one more is yielded, and one waits for room
	stop := make(chan struct{})
	defer func() {
		close(stop)
		for report := range pending {
			<-report
		}
	}()
	go func() {
		defer close(pending)
		for _, folder := range folders {
			report := make(chan Report, 1)
			go func() { report <- d.check(folder, o) }()
			select {
			case pending <- report:
			case <-stop:
				<-report
				return
			}
		}
	}()
	for report := range pending {
		if !yield(<-report) {
			return false
		}
	}
	return true
}

func (d disk) check(folder string, o Options) Report {
	id, _, err := d.read(folder, o, nil, func(places) {})
	report := Report{Folder: folder, Default: folder == o.Default, Err: err}
	if id != nil {
		report.Certificates, report.Options, report.ClientCA, report.Warnings = full(id.Certificates), id.Options, id.ClientCA, id.warnings
	}
	d.readStaged(&report)
	return report
}
