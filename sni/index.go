package sni

import (
	"hash/maphash"
	"sort"
	"strings"
	"sync/atomic"
)

// index is what the directory held at one moment: the names of the folders, in
// order, each with its number.
//
// A folder takes 70 bytes and its name, and no pointer but one: in place of a
// map of entries, whose hundred thousand objects the garbage collector would
// mark in each of its rounds, which made handshakes of a full directory 8 %
// dearer than those of a small one. What only folders in use need is in live.
type index struct {
	names string   // of all folders, one behind the other
	ends  []uint32 // where each ends
	table []uint32 // 1 + number of a folder, by the hash of its server name; 0 is free

	wildcards bool                   // there are any
	fallback  int                    // number of the default; none is -1
	lives     []atomic.Pointer[live] // nil until a folder is asked for; set under Store.publishing
	known     []facts                // guarded by Store.publishing
}

var (
	exactSeed    = maphash.MakeSeed()
	wildcardSeed = maphash.MakeSeed()
	failureSeed  = maphash.MakeSeed()
)

// newIndex makes the index of a sorted list of folders. It takes over what old
// has of them, and returns the numbers in old of those that are gone. The caller
// holds publishing.
func newIndex(folders []string, fallback string, old *index) (x *index, removed []int) {
	size := 4
	for size < 2*len(folders) {
		size *= 2
	}
	x = &index{
		names:    strings.Join(folders, ""),
		ends:     make([]uint32, len(folders)),
		table:    make([]uint32, size),
		fallback: -1,
		lives:    make([]atomic.Pointer[live], len(folders)),
		known:    make([]facts, len(folders)),
	}
	end, o := uint32(0), 0
	for i, folder := range folders {
		end += uint32(len(folder))
		x.ends[i] = end
		x.put(i)
		for ; o < old.len() && old.folder(o) < folder; o++ {
			removed = append(removed, o)
		}
		if o < old.len() && old.folder(o) == folder {
			x.lives[i].Store(old.lives[o].Load())
			x.known[i] = old.known[o]
			o++
		}
	}
	for ; o < old.len(); o++ {
		removed = append(removed, o)
	}
	if fallback == "" && len(folders) == 1 {
		fallback = folders[0]
	}
	x.fallback = x.number(fallback)
	return x, removed
}

func emptyIndex() *index { return &index{table: make([]uint32, 1), fallback: -1} }

func (x *index) len() int { return len(x.ends) }

// folder returns the name of folder i. It keeps the whole index in memory: who
// keeps it clones it.
func (x *index) folder(i int) string {
	begin := uint32(0)
	if i > 0 {
		begin = x.ends[i-1]
	}
	return x.names[begin:x.ends[i]]
}

// put enters folder i into the table: by its name, or a wildcard by what
// follows "*.". Less than half of the table is in use, so that a search
// ends soon at a free place. The hash is a keyed one: nobody can choose names
// that share a place.
func (x *index) put(i int) {
	place := maphash.String(exactSeed, x.folder(i))
	if parent, ok := wildcardParent(x.folder(i)); ok {
		place = maphash.String(wildcardSeed, parent)
		x.wildcards = true
	}
	mask := uint64(len(x.table) - 1)
	for place &= mask; x.table[place] != 0; place = (place + 1) & mask {
	}
	x.table[place] = uint32(i) + 1
}

// exact returns the number of the folder that is called as a server name, or -1.
func (x *index) exact(name string) int {
	mask := uint64(len(x.table) - 1)
	for place := maphash.String(exactSeed, name) & mask; x.table[place] != 0; place = (place + 1) & mask {
		if i := int(x.table[place] - 1); x.folder(i) == name && !isWildcard(name) {
			return i
		}
	}
	return -1
}

// wildcard returns the number of the folder for all names that are one label
// longer than parent, or -1.
func (x *index) wildcard(parent string) int {
	if !x.wildcards {
		return -1
	}
	mask := uint64(len(x.table) - 1)
	for place := maphash.String(wildcardSeed, parent) & mask; x.table[place] != 0; place = (place + 1) & mask {
		i := int(x.table[place] - 1)
		if found, ok := wildcardParent(x.folder(i)); ok && found == parent {
			return i
		}
	}
	return -1
}

func (x *index) wildcardFor(name string) int {
	_, parent, _ := strings.Cut(name, ".")
	return x.wildcard(parent)
}

// number returns the number of a folder by its own name, or -1.
func (x *index) number(folder string) int {
	i := x.exact(folder)
	if parent, ok := wildcardParent(folder); ok {
		i = x.wildcard(parent)
	}
	if i >= 0 && x.folder(i) == folder {
		return i
	}
	return -1
}

// after returns the number of the first folder behind the one called last.
func (x *index) after(last string) int {
	return sort.Search(x.len(), func(i int) bool { return x.folder(i) > last })
}

func (x *index) lists(folders []string) bool {
	if len(folders) != x.len() {
		return false
	}
	for i, folder := range folders {
		if x.folder(i) != folder {
			return false
		}
	}
	return true
}
