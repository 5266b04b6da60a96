package sni

import (
	"crypto/tls"
	"iter"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// Report is what Check found in one folder.
type Report struct {
	Folder       string
	Certificates []*tls.Certificate   // one or more, of different key types; empty if the folder cannot be served
	Options      any                  // as Identity.Options
	ClientCA     *tlsopts.Authorities // as Identity.ClientCA
	Warnings     []string             // served nevertheless, but to be mended; each begins with the path of a file
	Err          error                // *FolderErrors, joined: what cannot be served. Certificates has what can
}

// Check reads every folder of a certificate directory, those that a Store
// would refuse included, and reports on each in the order of names, those
// refused last. It keeps nothing in memory and asks no OCSP responder. Of the
// options it takes FolderOptions and OCSP. The error is that of Open for a
// directory without any folder to serve.
//
// The sequence can be used again; it reads the folders anew, but not their list.
func Check(dir string, o Options) (iter.Seq[Report], error) {
	d := newDisk(dir)
	folders, refused, err := d.list()
	if err != nil {
		return nil, err
	}
	return func(yield func(Report) bool) {
		for _, folder := range folders {
			if !yield(d.check(folder, o)) {
				return
			}
		}
		for _, err := range refused {
			if !yield(Report{Folder: err.Folder, Err: err}) {
				return
			}
		}
	}, nil
}

func (d disk) check(folder string, o Options) Report {
	id, _, err := d.read(folder, o, nil, func(places) {})
	if id == nil {
		return Report{Folder: folder, Err: err}
	}
	return Report{Folder: folder, Certificates: full(id.Certificates), Options: id.Options, ClientCA: id.ClientCA, Warnings: id.warnings, Err: err}
}
