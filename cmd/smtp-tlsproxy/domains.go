package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/admin"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// expiringWithin is how near the end of a certificate is that it is called
// expiring.
const expiringWithin = 30 * 24 * time.Hour

// status tells of the directory, and of one page of its folders.
func (c *certificates) status(query admin.Query, at time.Time) admin.Certificates {
	c.mu.Lock()
	now := admin.Certificates{Directory: c.from.Directory, Default: c.from.Default, Indexed: c.indexed}
	broken := maps.Clone(c.broken)
	c.mu.Unlock()
	for range c.Loaded() {
		now.Loaded++
	}
	now.Fault = escape.Text(broken[""], "\n\t")
	delete(broken, "")
	now.States, now.Domains = domains(c.Store, broken, query, at)
	return now
}

// entry is a folder that the query is for. One may be made for each of a hundred
// thousand folders, so it has no text of its own.
type entry struct {
	name     string // part of the index, as of sni.Known
	state    string
	notAfter int64 // in seconds since 1970; 0 is not known
}

// domains looks through all folders, counts them by their states, and tells of
// those on one page: the broken ones first, then by expiry, and those last of
// which nothing is known.
func domains(store *sni.Store, broken map[string]string, query admin.Query, at time.Time) (admin.States, admin.Domains) {
	var states admin.States
	var found []entry
	matches := 0
	wanted := query.Page * query.PerPage // what is sorted behind these is not shown
	look := func(e entry) {
		*counterOf(&states, e.state)++
		if (query.State != "" && query.State != e.state) || !strings.Contains(strings.ToLower(e.name), query.Search) { // a refused folder may have capitals
			return
		}
		matches++
		if found = append(found, e); len(found) >= 2*wanted+1000 {
			slices.SortFunc(found, byUrgency)
			found = found[:wanted]
		}
	}
	listed := 0
	for k := range store.Known() {
		_, isBroken := broken[k.Folder]
		if isBroken {
			listed++
		}
		look(entryOf(k, isBroken, at))
	}
	if listed < len(broken) { // folders whose names are none that a client asks for
		for name := range broken {
			if _, indexed := store.KnownOf(name); !indexed {
				look(entry{name: name, state: admin.Broken})
			}
		}
	}
	slices.SortFunc(found, byUrgency)
	page := admin.Domains{Query: query, Matches: matches, Pages: max(1, (matches+query.PerPage-1)/query.PerPage)}
	page.Page = min(query.Page, page.Pages)
	begin := (page.Page - 1) * query.PerPage
	page.List = domainsOf(store, broken, found[begin:min(len(found), begin+query.PerPage)])
	return states, page
}

func entryOf(k sni.Known, broken bool, at time.Time) entry {
	e := entry{name: k.Folder, state: admin.Valid}
	notAfter := k.NotAfter()
	if !notAfter.IsZero() {
		e.notAfter = notAfter.Unix()
	}
	switch {
	case broken:
		e.state = admin.Broken
	case e.notAfter == 0:
		e.state = admin.Unread
	case !notAfter.After(at):
		e.state = admin.Expired
	case notAfter.Before(at.Add(expiringWithin)):
		e.state = admin.Expiring
	}
	return e
}

func counterOf(states *admin.States, state string) *int {
	switch state {
	case admin.Broken:
		return &states.Broken
	case admin.Expired:
		return &states.Expired
	case admin.Expiring:
		return &states.Expiring
	case admin.Unread:
		return &states.Unread
	}
	return &states.Valid
}

// byUrgency puts the broken ones first, then what expires first.
func byUrgency(a, b entry) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.notAfter, b.notAfter), strings.Compare(a.name, b.name))
}

// domainsOf makes the texts of one page alone.
func domainsOf(store *sni.Store, broken map[string]string, page []entry) []admin.Domain {
	list := []admin.Domain{}
	for _, e := range page {
		known, _ := store.KnownOf(e.name) // nothing is, of a folder that is refused or gone
		d := admin.Domain{Name: strings.Clone(escape.Field(e.name)), State: e.state, NotAfter: unlessZero(known.NotAfter())}
		if e.state == admin.Broken {
			d.Fault = escape.Text(broken[e.name], "")
		}
		for _, expiry := range known.Expiries() {
			d.Certificates = append(d.Certificates, admin.Certificate{KeyType: expiry.KeyType, NotAfter: expiry.NotAfter})
		}
		list = append(list, d)
	}
	return list
}

// rank is in which part of the list a folder stands.
func rank(e entry) int {
	switch e.state {
	case admin.Broken:
		return 0
	case admin.Unread:
		return 2
	}
	return 1
}
