// Package sni serves certificates by server name from a directory that has a
// folder for each:
//
//	/certs/mail.example.com/    cert.pem       key.pem
//	/certs/mx.example.net/      fullchain.pem  privkey.pem   (certbot)
//	/certs/*.example.org/       tls.crt        tls.key       (Kubernetes)
//
// A folder may hold pairs of several key types, the chain and key in one file
// (bundle.pem, mail.pem.rsa, mail.pem.ecdsa) or PKCS #12 (*.pfx, *.p12), and beside
// them a passphrase, ca.pem (authorities of client certificates), ocsp.der (a
// response to staple) and tls.yaml (for Options.FolderOptions).
//
// Open indexes the names of the folders, a hundred thousand in a fraction of a
// second. What a folder holds, its Identity, is read when its name is asked for
// the first time, kept as long as there is room, and replaced when its files
// change; a pair that is half written or broken leaves the last good one in
// service. Store.GetCertificate is all that a tls.Config needs; Store.Lookup and
// Store.Serve are its two halves for callers with a policy of their own for
// unknown names, and Identity.Config is for those whose settings depend on the
// folder.
//
// Folders are called as clients ask: lower-case A-labels (RFC 5890). The
// wildcard folders "*.example.com" and "_.example.com", which are the same,
// stand for one label (RFC 6125 section 6.4.3). Names that begin with a dot
// and plain files are ignored. Symlinks are followed: /etc/letsencrypt/live and
// Kubernetes volumes serve as they are.
//
// No path is ever made from a server name, and no file is opened for one that
// has no folder. The package neither logs nor counts; see Events. It does not
// obtain certificates or handle session tickets, which must be off if names are
// to be kept apart.
//
// A Store is safe for concurrent use.
package sni

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/singleflight"
)

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

	indexing   sync.Mutex        // held while the folders are listed
	told       map[string]string // by refused folder, what was told of it; guarded by indexing
	publishing sync.Mutex        // held while entries and index change, and for all events

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
	o = o.withDefaults()
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
