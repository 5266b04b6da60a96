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
	"crypto/tls"
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

// defaultRescan is Options.Rescan if that is not set.
const defaultRescan = time.Minute

// Options are the settings of a Store. The zero value is ready for use.
type Options struct {
	// Default names the folder served to clients that send no server name, or
	// one that no folder is for. If it is empty, the only folder is the default
	// as long as there is only one; otherwise there is none.
	Default string

	// Rescan is how often the list of folders and the files in use are looked
	// at besides the notifications of the file system, which some (NFS) do not
	// send. 0 means one minute; negative means never.
	Rescan time.Duration

	// Events tells what happens.
	Events Events
}

// Events are functions that a Store calls when something happened; any may be
// nil. They are called one at a time, from background goroutines or from that
// of Open, Reload or a handshake, and with a lock held: they must not block,
// nor call Open, Close, Reload or Certificate.
type Events struct {
	Indexed func(folders int)                          // the list of folders changed; its length
	Loaded  func(folder string, cert *tls.Certificate) // a pair was read for the first time
	Renewed func(folder string, cert *tls.Certificate) // another pair took its place
	Removed func(folder string)                        // the folder is gone, and its pair with it
	Failed  func(folder string, err error)             // cannot be loaded or renewed, told once per text; "" is the directory
	Warning func(folder string, text string)           // served, but to be mended; "" is the directory
}

// orNothing fills in what is nil.
func (v Events) orNothing() Events {
	if v.Indexed == nil {
		v.Indexed = func(int) {}
	}
	if v.Loaded == nil {
		v.Loaded = func(string, *tls.Certificate) {}
	}
	if v.Renewed == nil {
		v.Renewed = func(string, *tls.Certificate) {}
	}
	if v.Removed == nil {
		v.Removed = func(string) {}
	}
	if v.Failed == nil {
		v.Failed = func(string, error) {}
	}
	if v.Warning == nil {
		v.Warning = func(string, string) {}
	}
	return v
}

// Store is an open certificate directory. The caller of Open closes it.
type Store struct {
	disk    disk
	options Options
	events  Events
	index   atomic.Pointer[index]
	loads   singleflight.Group // by folder
	slots   chan struct{}      // one for each load under way

	watch       *watch
	changes     *changes
	newNotifier func() (*fsnotify.Watcher, error)
	unwatched   sync.Once // the warning about it
	stop        chan struct{}
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
	s := &Store{
		disk:        newDisk(dir),
		options:     o,
		events:      o.Events.orNothing(),
		slots:       make(chan struct{}, maxLoads),
		watch:       newWatch(),
		changes:     newChanges(),
		newNotifier: fsnotify.NewWatcher,
		stop:        make(chan struct{}),
	}
	s.index.Store(&index{})
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
	return nil
}

// loadFirst makes sure that something can be served.
func (s *Store) loadFirst() error {
	x := s.index.Load()
	if x.fallback != nil {
		if _, err := s.load(x.fallback); err != nil {
			return fmt.Errorf("default certificate: %w", err)
		}
		return nil
	}
	if s.options.Default != "" {
		return s.missingDefault(x)
	}
	var failures []error
	for _, e := range x.entries {
		_, err := s.load(e)
		if err == nil {
			return nil
		}
		failures = append(failures, err)
	}
	err := fmt.Errorf("certificate directory %s: none of its %d folders can be served", s.disk.dir, len(x.entries))
	return errors.Join(append([]error{err}, first(failures)...)...)
}

func (s *Store) missingDefault(x *index) error {
	listed := ""
	for i, e := range x.entries {
		if i == maxListed {
			listed += fmt.Sprintf(" and %d more", len(x.entries)-i)
			break
		}
		listed += " " + e.folder
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
	for _, e := range s.index.Load().entries {
		if !e.asked.Load() {
			continue
		}
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		e.reading.Lock()
		_, err := s.look(e)
		e.reading.Unlock()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Usable reports whether a handshake can be served now: whether the default
// is loaded or, failing that, any folder. Where a changed list of folders left
// none of them, one is loaded without being asked for.
func (s *Store) Usable() bool {
	if e := s.index.Load().fallback; e != nil && e.pair.Load() != nil {
		return true
	}
	for range s.Loaded() {
		return true
	}
	return false
}

// Loaded returns the folders that are loaded and their pairs, in the order of
// names. The sequence is as of its use.
func (s *Store) Loaded() iter.Seq2[string, *tls.Certificate] {
	return func(yield func(string, *tls.Certificate) bool) {
		for _, e := range s.index.Load().entries {
			if p := e.pair.Load(); p != nil && !yield(e.folder, p.cert) {
				return
			}
		}
	}
}
