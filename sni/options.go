package sni

import (
	"net/http"
	"time"
)

// Defaults of Options.
const (
	defaultRescan = time.Minute
	defaultSurvey = 12 * time.Hour
)

// Options are the settings of a Store. The zero value is ready for use.
type Options struct {
	// Default names the folder served to clients that send no server name, or
	// one that no folder is for. If it is empty, the only folder is the default
	// as long as there is only one; otherwise there is none.
	Default string

	// Cache is how many folders are kept loaded. The least recently used, to
	// the second, makes room and is read again when it is asked for. The
	// default folder stays, and so does what could not be read again because
	// its files are broken now. 0 means 4096; negative means without bound.
	Cache int

	// Rescan is how often the list of folders and the files of all that are
	// loaded are looked at besides the notifications of the file system, which
	// some (NFS) do not send. 0 means one minute; negative means never. The
	// files of a folder in use are looked at once a second in any case.
	Rescan time.Duration

	// Survey is how often all folders are read in the background, loaded or
	// not, to tell when their certificates expire and which are broken: 50 a
	// second at most, and with a twentieth of a processor. Nothing of it is
	// kept in memory but the dates. 0 means 12 hours; negative means never.
	Survey time.Duration

	// OCSP is whether OCSP responses are stapled. 0 means OCSPAuto.
	OCSP OCSP

	// HTTP asks OCSP responders, in the background. Nil means a client without
	// persistent connections that goes through the proxy of the environment
	// (HTTP_PROXY).
	HTTP *http.Client

	// FolderOptions reads a folder's own options: path and content of its
	// tls.yaml. What it returns is Identity.Options; of it the Store itself
	// looks at PassphraseFiler and Stapler. An error keeps the folder, or the
	// change, out of service. It is called from several goroutines. Nil means
	// that such a file is passed over with a warning.
	FolderOptions func(path string, data []byte) (any, error)

	// Events tells what happens.
	Events Events
}

func (o Options) withDefaults() Options {
	if o.Cache == 0 {
		o.Cache = defaultCache
	}
	if o.Rescan == 0 {
		o.Rescan = defaultRescan
	}
	if o.Survey == 0 {
		o.Survey = defaultSurvey
	}
	if o.OCSP == 0 {
		o.OCSP = OCSPAuto
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	}
	return o
}
