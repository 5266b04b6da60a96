package admin

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// perPage is how many domains are shown unless the query says otherwise.
	perPage = 50
	// maxPerPage bounds what one page holds in memory.
	maxPerPage = 1000
	// maxPage keeps their product from running over.
	maxPage = 1_000_000
	// maxSearch is the length of the longest server name (RFC 1035 section 2.3.4).
	maxSearch = 253
)

// Query is which domains are shown.
type Query struct {
	Search  string `json:"q"`     // a part of the name; empty is all
	State   string `json:"state"` // empty is all
	Page    int    `json:"page"`  // from 1 on
	PerPage int    `json:"per_page"`
}

// queryOf reads the parameters of a page. What makes no sense is taken for not
// said: a link that was cut in a mail still shows something.
func queryOf(parameters url.Values) Query {
	q := Query{
		Search:  strings.ToLower(strings.TrimSpace(parameters.Get("q"))),
		State:   parameters.Get("state"),
		Page:    min(maxPage, max(1, number(parameters.Get("page")))),
		PerPage: min(maxPerPage, max(0, number(parameters.Get("per_page")))),
	}
	q.Search = strings.ToValidUTF8(q.Search[:min(len(q.Search), maxSearch)], "")
	q.PerPage = cmp.Or(q.PerPage, perPage)
	if !slices.Contains([]string{Broken, Expired, Expiring, Valid, Unread}, q.State) {
		q.State = ""
	}
	return q
}

// number is 0 for what is none.
func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

// link leads to a page of the same domains.
func (q Query) link(page int) string {
	parameters := make(url.Values)
	for name, value := range map[string]string{"q": q.Search, "state": q.State} {
		if value != "" {
			parameters.Set(name, value)
		}
	}
	if page > 1 {
		parameters.Set("page", strconv.Itoa(page))
	}
	if q.PerPage != perPage {
		parameters.Set("per_page", strconv.Itoa(q.PerPage))
	}
	return "./?" + parameters.Encode() + "#domains"
}
