package sni

import (
	"crypto/tls"
	"time"
)

// Events are functions that a Store calls when something happened; any may be
// nil. They are called one at a time, from background goroutines or from that
// of Open, Reload or a handshake, and with a lock held: they must not block,
// nor call Open, Close, Reload, Certificate or Identity. What they are given
// must not be changed.
type Events struct {
	Indexed func(folders int)                 // the list of folders changed; its length
	Loaded  func(folder string, id *Identity) // what a folder holds was read on demand, also after Evicted
	Renewed func(folder string, id *Identity) // its content changed; the new one is in service
	Evicted func(folder string)               // left memory to make room (Options.Cache); read again when asked for
	Removed func(folder string)               // the folder is gone, and its certificates with it
	Failed  func(folder string, err error)    // cannot be loaded or renewed, in whole or in part; told once per text; "" is the directory
	Mended  func(folder string)               // what Failed told last is no longer so; not told of a folder that is Removed
	Warning func(folder string, text string)  // served, but to be mended; "" is the directory

	// Expiry tells when the certificates of a folder expire, once it is known
	// and each time it changes: loaded or not (see Options.Survey).
	Expiry func(folder string, all []Expiry)
	// Expiring tells that a certificate expires within 30, 14, 7, 3 or 1 days,
	// or, with 0, that it has. A certificate is told once for each of these.
	Expiring func(folder string, e Expiry, days int)
	// Stapled tells that an OCSP response came into service with cert, and
	// until when it is good.
	Stapled func(folder string, cert *tls.Certificate, until time.Time)
}

// orNothing fills in what is nil.
func (v Events) orNothing() Events {
	if v.Indexed == nil {
		v.Indexed = func(int) {}
	}
	if v.Loaded == nil {
		v.Loaded = func(string, *Identity) {}
	}
	if v.Renewed == nil {
		v.Renewed = func(string, *Identity) {}
	}
	if v.Evicted == nil {
		v.Evicted = func(string) {}
	}
	if v.Removed == nil {
		v.Removed = func(string) {}
	}
	if v.Failed == nil {
		v.Failed = func(string, error) {}
	}
	if v.Mended == nil {
		v.Mended = func(string) {}
	}
	if v.Warning == nil {
		v.Warning = func(string, string) {}
	}
	if v.Expiry == nil {
		v.Expiry = func(string, []Expiry) {}
	}
	if v.Expiring == nil {
		v.Expiring = func(string, Expiry, int) {}
	}
	if v.Stapled == nil {
		v.Stapled = func(string, *tls.Certificate, time.Time) {}
	}
	return v
}
