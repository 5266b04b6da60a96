package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/admin"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// manyFolders is a directory with that many empty folders, of which nothing is
// known, beside the default's.
func manyFolders(t testing.TB, n int) *sni.Store {
	t.Helper()
	dir := t.TempDir()
	ca, err := devcert.NewCA("Authority of the tests")
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.WriteFolder(dir, "default.example", devcert.Leaf{Names: []string{"default.example"}}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("host%06d.example", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	store, err := sni.Open(dir, sni.Options{Default: "default.example", Survey: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

func namesOn(d admin.Domains) string {
	var all []string
	for _, one := range d.List {
		all = append(all, one.Name)
	}
	return strings.Join(all, " ")
}

// TestStatusOfManyDomains: one page of many folders, and no more memory for it
// than what they are sorted in: texts are made for what is on the page alone.
func TestStatusOfManyDomains(t *testing.T) { // not parallel: it counts allocations
	const folders = 5000
	store := manyFolders(t, folders)
	broken := map[string]string{"host004999.example": "no key", "müller.example": "wrong name\nof a folder"}
	at := time.Now()
	query := admin.Query{Page: 1, PerPage: 4}
	states, page := domains(store, broken, query, at)
	if want := (admin.States{Broken: 2, Valid: 1, Unread: folders - 1}); states != want {
		t.Errorf("states %+v, want %+v", states, want)
	}
	if got, want := namesOn(page), "host004999.example müller.example default.example host000000.example"; got != want || page.Matches != folders+2 || page.Pages != 1251 {
		t.Errorf("%+v", page)
	}
	if d := page.List[0]; d.State != admin.Broken || d.Fault != "no key" || d.NotAfter != nil {
		t.Errorf("%+v", d)
	}
	if d := page.List[1]; d.Fault != `wrong name\nof a folder` {
		t.Errorf("%+v", d)
	}
	if d := page.List[2]; d.State != admin.Valid || d.NotAfter == nil || len(d.Certificates) != 1 || d.Certificates[0].KeyType != "ecdsa" {
		t.Errorf("%+v", d)
	}
	if _, page = domains(store, broken, admin.Query{Search: "04998", Page: 7, PerPage: 4}, at); namesOn(page) != "host004998.example" || page.Page != 1 {
		t.Errorf("%+v", page)
	}
	if _, page = domains(store, map[string]string{"Mail.Example": "capitals"}, admin.Query{Search: "mail.ex", Page: 1, PerPage: 4}, at); namesOn(page) != "Mail.Example" {
		t.Errorf("a folder with capitals is not found: %+v", page)
	}
	for _, query.Page = range []int{2, 400, 1251, 1_000_000} { // each page follows the one before it
		_, page = domains(store, nil, query, at)
		first := 4*(page.Page-1) - 1 // behind the default's, which is valid
		if got, want := page.List[0].Name, fmt.Sprintf("host%06d.example", first); got != want || page.Page != min(query.Page, 1251) {
			t.Errorf("page %d: it begins with %s, want %s", page.Page, got, want)
		}
	}
	query.PerPage = 50
	for _, query.Page = range []int{1, 50, 1000} {
		// Each domain of the page may cost a name, its dates and a fault.
		if allocs := testing.AllocsPerRun(3, func() { domains(store, broken, query, at) }); allocs > 6*50 {
			t.Errorf("page %d: %v allocations", query.Page, allocs)
		}
	}
}

// TestStatesOfFolders: which state it is that a folder has.
func TestStatesOfFolders(t *testing.T) {
	t.Parallel()
	store := manyFolders(t, 1) // the default's certificate is good for 90 days, less an hour
	known, _ := store.KnownOf("default.example")
	until := known.NotAfter()
	for _, test := range []struct {
		broken bool
		at     time.Time
		want   string
	}{
		{false, until.Add(-expiringWithin - time.Second), admin.Valid},
		{false, until.Add(-expiringWithin + time.Second), admin.Expiring},
		{false, until.Add(-time.Second), admin.Expiring},
		{false, until, admin.Expired},
		{true, until, admin.Broken},
	} {
		if got := entryOf(known, test.broken, test.at); got.state != test.want || got.notAfter != until.Unix() {
			t.Errorf("%v before the end, broken %t: %+v, want %s", until.Sub(test.at), test.broken, got, test.want)
		}
	}
	unread, _ := store.KnownOf("host000000.example")
	if got := entryOf(unread, false, until); got.state != admin.Unread {
		t.Errorf("%+v", got)
	}
	found := []entry{{"d", admin.Unread, 0}, {"c", admin.Valid, 9}, {"b", admin.Expired, 1}, {"a", admin.Valid, 9}, {"e", admin.Broken, 12}, {"f", admin.Expiring, 2}}
	slices.SortFunc(found, byUrgency)
	if got := namesOn(admin.Domains{List: domainsOf(store, nil, found)}); got != "e b f a c d" {
		t.Errorf("the order is %s", got)
	}
}

// BenchmarkStatusOfManyDomains is what one look at the status page costs beside
// a hundred thousand folders.
func BenchmarkStatusOfManyDomains(b *testing.B) {
	store := manyFolders(b, 100_000)
	for name, query := range map[string]admin.Query{"first": {Page: 1, PerPage: 50}, "last": {Page: 2001, PerPage: 50}, "search": {Search: "0999", Page: 1, PerPage: 50}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				domains(store, nil, query, time.Now())
			}
		})
	}
}
