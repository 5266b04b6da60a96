package sni

import (
	"crypto"
	"fmt"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// StagedKey is a key that waits in a folder for its certificate. A Store does
// not look at it: it is there so that what is published of keys, as TLSA
// records are (RFC 7671 section 8.1), can be published before the key is served.
type StagedKey struct {
	File   string // its name within the folder, such as next-key.pem
	Public crypto.PublicKey
}

// readStaged adds the staged keys of a folder to its report. One that cannot be
// read is a warning: what is served does not depend on it.
func (d disk) readStaged(report *Report) {
	r := d.reading(report.Folder)
	if err := r.list(func(places) {}); err != nil {
		return // told by the reading of the folder
	}
	for _, name := range r.names {
		if !isStaged(name) {
			continue
		}
		key, err := r.stagedKey(name, report.Options)
		if err != nil {
			r.warnings = append(r.warnings, err.Error())
			continue
		}
		report.Staged = append(report.Staged, StagedKey{File: name, Public: key})
	}
	report.Warnings = append(report.Warnings, r.warnings...)
}

func (r *reading) stagedKey(name string, options any) (crypto.PublicKey, error) {
	if r.passphrase == nil {
		told := len(r.warnings)
		err := r.readPassphrase(options)
		if r.warnings = r.warnings[:told]; err != nil { // of its mode the folder's reading has warned
			return nil, err
		}
	}
	data, err := r.file(name)
	if err != nil {
		return nil, err
	}
	r.checkMode(name)
	keys, err := tlsopts.ParseKeys(r.passphrase, tlsopts.File{Data: data})
	if err == nil && len(keys) > 1 {
		err = fmt.Errorf("%d private keys: one is staged in a file", len(keys))
	}
	if err != nil {
		return nil, r.fault(name, err)
	}
	return keys[0].Public(), nil
}
