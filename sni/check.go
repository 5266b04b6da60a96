package sni

import (
	"crypto/tls"
	"iter"
)

// Report is what Check found in one folder.
type Report struct {
	Folder      string
	Certificate *tls.Certificate // nil with Err
	Warnings    []string         // served nevertheless, but to be mended
	Err         error            // a *FolderError: the folder cannot be served
}

// Check reads every folder of a certificate directory, those that a Store
// would refuse included, and reports on each in the order of names, those
// refused last. It keeps nothing in memory. The error is that of Open for a
// directory without any folder to serve.
//
// The sequence can be used again; it reads the folders anew, but not their list.
func Check(dir string) (iter.Seq[Report], error) {
	d := newDisk(dir)
	folders, refused, err := d.list()
	if err != nil {
		return nil, err
	}
	return func(yield func(Report) bool) {
		for _, folder := range folders {
			if !yield(d.check(folder)) {
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

func (d disk) check(folder string) Report {
	p, err := d.read(folder, func([]string) {})
	if err != nil {
		return Report{Folder: folder, Err: err}
	}
	return Report{Folder: folder, Certificate: p.cert, Warnings: p.warnings}
}
