package sni

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// entry is one folder of the index. There may be a hundred thousand, so it has
// 32 bytes; with its name, its place in the map and in the list it is some 100.
// What only folders in use need is in live.
type entry struct {
	folder string
	live   atomic.Pointer[live] // nil until the folder is asked for
	known  *facts               // guarded by Store.publishing; nil until it was read
}

// facts are what is kept of a folder that was read, loaded or not.
type facts struct {
	told     uint64   // hash of the failure told last; 0 for none
	expiries []expiry // by key type
}

// live is a folder that was asked for: it is renewed from then on.
type live struct {
	entry    *entry
	identity atomic.Pointer[Identity] // what handshakes get; nil until loaded, and once evicted
	failure  atomic.Pointer[failure]  // of the last reading; nil if that went well
	checked  atomic.Int64             // when it was last used and its files were looked at; see Store.touch
	gone     atomic.Bool              // no longer in the index
	stale    bool                     // not all could be read the last time; guarded by Store.publishing

	reading sync.Mutex  // held while its files are read
	again   atomic.Bool // its files changed while they were read
	seen    *look       // of the last reading; guarded by reading

	newer, older *live // in the cache, and guarded by its lock
	cached       bool
}

type failure struct {
	err error
	at  time.Time
}

// alive returns the live part of an entry, which it makes at the first call.
func (e *entry) alive() *live {
	if l := e.live.Load(); l != nil {
		return l
	}
	e.live.CompareAndSwap(nil, &live{entry: e})
	return e.live.Load()
}

// identity returns what is loaded, or nil.
func (e *entry) identity() *Identity {
	if l := e.live.Load(); l != nil {
		return l.identity.Load()
	}
	return nil
}

// index is what the directory held at one moment. It never changes after it
// was published; renewals happen inside its entries.
type index struct {
	entries  []*entry          // by folder
	exact    map[string]*entry // by server name
	wildcard map[string]*entry // by the name after "*."
	fallback *entry            // the default; may be nil
}

// next returns the index of a new list of sorted folders, and the entries that
// are no longer in it. What stays keeps its entry, and so its pair.
func (x *index) next(folders []string, fallback string) (next *index, removed []*entry) {
	next = &index{
		entries:  make([]*entry, 0, len(folders)),
		exact:    make(map[string]*entry, len(folders)),
		wildcard: make(map[string]*entry),
	}
	for _, folder := range folders {
		e := x.entry(folder)
		if e == nil {
			e = &entry{folder: folder}
		}
		next.entries = append(next.entries, e)
		if parent, ok := wildcardParent(folder); ok {
			next.wildcard[parent] = e
		} else {
			next.exact[folder] = e
		}
	}
	if fallback == "" && len(folders) == 1 {
		fallback = folders[0]
	}
	next.fallback = next.entry(fallback)
	for _, e := range x.entries {
		if next.entry(e.folder) != e {
			removed = append(removed, e)
		}
	}
	return next, removed
}

func (x *index) lists(folders []string) bool {
	return slices.EqualFunc(x.entries, folders, func(e *entry, folder string) bool { return e.folder == folder })
}

// entry returns the entry of a folder, or nil.
func (x *index) entry(folder string) *entry {
	e := x.exact[folder]
	if parent, ok := wildcardParent(folder); ok {
		e = x.wildcard[parent]
	}
	if e != nil && e.folder == folder {
		return e
	}
	return nil
}

func (x *index) wildcardFor(name string) *entry {
	_, parent, _ := strings.Cut(name, ".")
	return x.wildcard[parent]
}

// removed reports whether the folder is no longer in the index.
func (e *entry) removed() bool {
	l := e.live.Load()
	return l != nil && l.gone.Load()
}
