package sni

import (
	"slices"
	"strings"
	"sync"
)

// defaultCache is Options.Cache if that is not set. A pair takes 6 kB (ECDSA)
// to 12 kB (RSA), so a full cache some 25 to 50 MB.
const defaultCache = 4096

// cache keeps the folders that are loaded, in the order of their last use, so
// that the least recently used can go. Use counts once a second (Store.touch):
// a handshake within that second takes no lock, and a list is all it needs.
// container/list would allocate an element and an interface for each.
type cache struct {
	limit int // negative: none

	mu   sync.Mutex
	head live // newer is the least, older the most recently used: a ring
	size int
}

func (c *cache) init(limit int) {
	c.limit = limit
	c.head.newer, c.head.older = &c.head, &c.head
}

// add puts l in front.
func (c *cache) add(l *live) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.gone.Load() {
		return // its pair serves those who found it before, and nobody else
	}
	if l.cached {
		c.unlink(l)
	}
	c.link(l)
}

// use puts l in front if it is there.
func (c *cache) use(l *live) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.cached {
		c.unlink(l)
		c.link(l)
	}
}

func (c *cache) link(l *live) {
	l.newer, l.older, l.cached = &c.head, c.head.older, true
	l.newer.older, l.older.newer = l, l
	c.size++
}

func (c *cache) remove(l *live) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.cached {
		c.unlink(l)
	}
}

func (c *cache) unlink(l *live) {
	l.newer.older, l.older.newer = l.older, l.newer
	l.newer, l.older, l.cached = nil, nil, false
	c.size--
}

// overflow takes out what is too much, the least recently used first. It
// passes over those that keep says to.
func (c *cache) overflow(keep func(*live) bool) (out []*live) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limit < 0 {
		return nil
	}
	for l := c.head.newer; l != &c.head && c.size > c.limit; {
		next := l.newer
		if !keep(l) {
			c.unlink(l)
			out = append(out, l)
		}
		l = next
	}
	return out
}

func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// all returns what is loaded, by folder.
func (c *cache) all() []*live {
	c.mu.Lock()
	all := make([]*live, 0, c.size)
	for l := c.head.newer; l != &c.head; l = l.newer {
		all = append(all, l)
	}
	c.mu.Unlock()
	slices.SortFunc(all, func(a, b *live) int { return strings.Compare(a.folder, b.folder) })
	return all
}
