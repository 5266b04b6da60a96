// Package sni serves certificates by server name from a directory that has a
// folder for each:
//
//	/certs/mail.example.com/    cert.pem       key.pem
//	/certs/mx.example.net/      fullchain.pem  privkey.pem   (certbot)
//	/certs/*.example.org/       tls.crt        tls.key       (Kubernetes)
//
// Open indexes the names of the folders. A pair is read when its name is asked
// for the first time, kept, and replaced when its files change; a pair that is
// half written or broken leaves the last good one in service. Store.GetCertificate
// is all that a tls.Config needs; Store.Lookup and Store.Certificate are its two
// halves for callers with a policy of their own for unknown names.
//
// Folders are called as clients ask: lower-case A-labels (RFC 5890). The
// wildcard folders "*.example.com" and "_.example.com", which are the same,
// stand for one label (RFC 6125 section 6.4.3). Names that begin with a dot
// and plain files are ignored. Symlinks are followed: /etc/letsencrypt/live and
// Kubernetes volumes serve as they are.
//
// No path is ever made from a server name, and no file is opened for one that
// has no folder. The package neither logs nor counts; see Events. It does not
// obtain certificates, staple OCSP responses or handle session tickets, which
// must be off if names are to be kept apart.
//
// A Store is safe for concurrent use.
package sni

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/singleflight"
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

// Store is an open certificate directory. The caller of Open closes it.
type Store struct {
	disk    disk
	options Options
	events  Events
	index   atomic.Pointer[index]
	cache   cache
	loads   singleflight.Group // by folder
	queue   queue              // of the loads under way
	used    used
	tasks   chan task // folders to look at
	stapler *stapler
	began   time.Time // what the times of live count from

	watch       *watch
	changes     *changes
	newNotifier func() (*fsnotify.Watcher, error)
	unwatched   sync.Once // the warning about it
	stop        chan struct{}
	ctx         context.Context // of requests to responders; done after Close
	cancel      func()
	closing     sync.Once
	background  sync.WaitGroup

	indexing   sync.Mutex      // held while the folders are listed
	told       map[string]bool // refused folders that were told; guarded by indexing
	publishing sync.Mutex      // held while entries and index change, and for all events

	lastIndexing string // failure to list the folders that was told; guarded by publishing
}

// Open indexes the folders of dir, loads the default pair and begins to watch
// for changes. It fails if dir cannot be read or has no folder that can be
// served, and if the default does not exist or cannot be loaded. Without a
// default it fails if not one of the folders can be loaded.
func Open(dir string, o Options) (*Store, error) {
	if dir == "" {
		return nil, errors.New("certificate directory: no name given")
	}
	s := newStore(dir, o)
	if err := s.start(); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func newStore(dir string, o Options) *Store {
	if o.Rescan == 0 {
		o.Rescan = defaultRescan
	}
	if o.Survey == 0 {
		o.Survey = defaultSurvey
	}
	if o.Cache == 0 {
		o.Cache = defaultCache
	}
	if o.OCSP == 0 {
		o.OCSP = OCSPAuto
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	}
	s := &Store{
		disk:        newDisk(dir),
		options:     o,
		events:      o.Events.orNothing(),
		queue:       newQueue(),
		used:        used{wake: make(chan struct{}, 1)},
		tasks:       make(chan task, 1024),
		stapler:     newStapler(),
		began:       time.Now(),
		watch:       newWatch(),
		changes:     newChanges(),
		newNotifier: fsnotify.NewWatcher,
		stop:        make(chan struct{}),
	}
	s.cache.init(o.Cache)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.index.Store(emptyIndex())
	return s
}

func (s *Store) start() error {
	notifier, err := s.newNotifier()
	if err == nil {
		s.watch.notifier = notifier
		s.background.Go(func() { s.changes.listen(notifier) })
	}
	s.warnUnwatched(err)
	if err := s.reindex(); err != nil {
		return err
	}
	if err := s.loadFirst(); err != nil {
		return err
	}
	s.background.Go(s.keep)
	s.background.Go(s.dispatch)
	s.background.Go(s.survey)
	for range fetchers {
		s.background.Go(s.fetch)
	}
	for range workers {
		s.background.Go(s.work)
	}
	return nil
}

// loadFirst makes sure that something can be served.
func (s *Store) loadFirst() error {
	x := s.index.Load()
	if x.fallback >= 0 {
		if _, err := s.load(s.alive(x.folder(x.fallback))); err != nil {
			return fmt.Errorf("default certificate: %w", err)
		}
		return nil
	}
	if s.options.Default != "" {
		return s.missingDefault(x)
	}
	var failures []error
	for i := range x.len() {
		_, err := s.load(s.alive(x.folder(i)))
		if err == nil {
			return nil
		}
		failures = append(failures, err)
	}
	err := fmt.Errorf("certificate directory %s: none of its %d folders can be served", s.disk.dir, x.len())
	return errors.Join(append([]error{err}, first(failures)...)...)
}

func (s *Store) missingDefault(x *index) error {
	listed := ""
	for i := range x.len() {
		if i == maxListed {
			listed += fmt.Sprintf(" and %d more", x.len()-i)
			break
		}
		listed += " " + x.folder(i)
	}
	return fmt.Errorf("default certificate: %s: no such folder with a server name; there are:%s",
		filepath.Join(s.disk.dir, s.options.Default), listed)
}

// Close ends the watching for changes and waits until that has ended; loads
// that handshakes have begun may still end later. What was loaded can be
// looked up, and what was not can be loaded, but nothing is renewed any more
// except by Reload. Further calls do nothing.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		close(s.stop)
		s.cancel()
		err = s.watch.close()
		s.background.Wait()
	})
	return err
}

// Reload lists the folders again and reads all that were ever asked for, now
// and without regard to notifications. It returns all that is wrong, also what
// Events told earlier; what could not be renewed stays in service. The end of
// ctx is noticed between two folders.
func (s *Store) Reload(ctx context.Context) error {
	err := s.reindex()
	s.tellIndexing(err)
	s.loadAgain()
	errs := []error{err}
	lives := s.index.Load().lives
	for i := range lives {
		l := lives[i].Load()
		if l == nil {
			continue
		}
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		errs = append(errs, s.reread(l))
	}
	return errors.Join(errs...)
}

func (s *Store) reread(l *live) error {
	l.reading.Lock()
	defer s.doneReading(l)
	if l.identity.Load() == nil && l.failure.Load() == nil { // evicted
		return nil
	}
	_, err := s.read(l)
	return err
}

// Usable reports whether a handshake can be served now: whether any folder is
// loaded. The default is, from Open on, as long as it is there; where a changed
// list of folders left none that is loaded, one is without being asked for.
func (s *Store) Usable() bool {
	return s.cache.len() > 0
}

// Loaded returns the folders that are loaded and what they hold, in the order
// of names. The sequence is as of its use.
func (s *Store) Loaded() iter.Seq2[string, *Identity] {
	return func(yield func(string, *Identity) bool) {
		for _, l := range s.cache.all() {
			if id := l.identity.Load(); id != nil && !yield(id.Folder, id) {
				return
			}
		}
	}
}

// ForgetConfigs drops what Identity.Config keeps. It is called after listeners
// changed, so that the configurations of the old ones do not stay in memory.
func (s *Store) ForgetConfigs() {
	for _, id := range s.Loaded() {
		id.configs.Store(nil)
	}
}
