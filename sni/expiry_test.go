package sni_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

const day = 24 * time.Hour

// lasting makes a folder whose certificate expires after a time.
func lasting(t *testing.T, dir, name string, key devcert.KeyType, left time.Duration) {
	t.Helper()
	chain, keyPEM, err := authority().Issue(devcert.Leaf{Names: []string{name}, Key: key, NotBefore: time.Now().Add(-day), Lifetime: left + day})
	must(t, err)
	write(t, append(chain, keyPEM...), dir, name, "x."+map[devcert.KeyType]string{devcert.RSA2048: "rsa", devcert.ECDSA: "ecdsa"}[key])
}

func TestExpiring(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		dir := t.TempDir()
		lasting(t, dir, "a.example", devcert.ECDSA, 40*day)
		lasting(t, dir, "a.example", devcert.RSA2048, 5*day+time.Hour)
		lasting(t, dir, "unloaded.example", devcert.ECDSA, 2*day)
		var r record
		s := openHooked(t, dir, sni.Options{Default: "a.example", Rescan: never, Survey: day, Events: r.events()}, sni.Hooks{Notifier: deaf})
		time.Sleep(time.Minute)
		synctest.Wait()
		expiring := func() []string {
			var lines []string
			for _, line := range r.all() {
				if rest, ok := strings.CutPrefix(line, "expiring "); ok {
					lines = append(lines, rest)
				}
			}
			slices.Sort(lines)
			return lines
		}
		want := []string{"a.example: rsa 7", "unloaded.example: ecdsa 3"}
		if got := expiring(); !slices.Equal(got, want) {
			t.Fatalf("told %q, want %q", got, want)
		}
		if r.count("expiry a.example: ") != 2 || r.count("expiry unloaded.example: ecdsa") != 1 {
			t.Errorf("events %q", r.all())
		}
		if got := loaded(s); len(got) != 1 {
			t.Errorf("the survey left %q in memory", got)
		}
		time.Sleep(41 * day)
		synctest.Wait()
		want = []string{
			"a.example: ecdsa 0", "a.example: ecdsa 1", "a.example: ecdsa 14", "a.example: ecdsa 3", "a.example: ecdsa 30", "a.example: ecdsa 7",
			"a.example: rsa 0", "a.example: rsa 1", "a.example: rsa 3", "a.example: rsa 7",
			"unloaded.example: ecdsa 0", "unloaded.example: ecdsa 1", "unloaded.example: ecdsa 3",
		}
		if got := expiring(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		lasting(t, dir, "unloaded.example", devcert.ECDSA, 10*day)
		time.Sleep(2 * day)
		synctest.Wait()
		if !slices.Contains(expiring(), "unloaded.example: ecdsa 14") {
			t.Errorf("the renewed one is not told: %q", expiring())
		}
		must(t, s.Close())
	})
}

// TestSurveyFindsBrokenAndNewFolders also shows its pace.
func TestSurveyFindsBrokenAndNewFolders(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		dir := tree(t, "a.example", "b.example", "c.example", "d.example")
		must(t, os.Remove(filepath.Join(dir, "c.example", "key.pem")))
		var r record
		s := openHooked(t, dir, sni.Options{Default: "a.example", Rescan: time.Second, Events: r.events(), Survey: 10 * day}, sni.Hooks{Notifier: deaf})
		synctest.Wait()
		if n := r.count("expiry "); n > 2 { // the default's, and one of the survey
			t.Errorf("%d folders were read at once", n)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if r.count("failed c.example: ") != 1 || r.count("expiry ") != 3 || r.count("loaded ") != 1 {
			t.Errorf("events %q", r.all())
		}
		if got := get(t, s, "c.example").Leaf.DNSNames[0]; got != "a.example" || r.count("failed c.example: ") != 1 {
			t.Errorf("got %s, events %q", got, r.all())
		}
		renew(t, dir, "e.example")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if r.count("expiry e.example: ") != 1 {
			t.Errorf("the new folder was not read: %q", r.all())
		}
		must(t, s.Close())
	})
}

// TestR30_ExpiredExactLosesToWildcard shows that an expired certificate is
// served only for want of a better one.
func TestR30_ExpiredExactLosesToWildcard(t *testing.T) {
	tests := []struct {
		name           string
		exact          time.Duration
		wildcard       time.Duration // 0: none
		covers         string
		want, wantKind string
	}{
		{"valid exact", day, day, "*.example.com", "a.example.com", "exact"},
		{"expired exact", -time.Hour, day, "*.example.com", "*.example.com", "wildcard"},
		{"both expired", -time.Hour, -time.Hour, "*.example.com", "a.example.com", "exact"},
		{"wildcard for others", -time.Hour, day, "*.example.net", "a.example.com", "exact"},
		{"no wildcard", -time.Hour, 0, "", "a.example.com", "exact"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t, "default.example")
			put := func(folder, name string, left time.Duration) {
				must(t, authority().WriteFolder(dir, folder, devcert.Leaf{Names: []string{name}, NotBefore: time.Now().Add(-2 * day), Lifetime: left + 2*day}))
			}
			put("a.example.com", "a.example.com", tt.exact)
			if tt.wildcard != 0 {
				put("*.example.com", tt.covers, tt.wildcard)
			}
			s := open(t, dir, sni.Options{Default: "default.example"})
			if got := get(t, s, "a.example.com").Leaf.DNSNames[0]; got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			_, match, err := s.Serve(t.Context(), s.Lookup("a.example.com"))
			must(t, err)
			if match.Kind.String() != tt.wantKind {
				t.Errorf("match %v, want %s", match.Kind, tt.wantKind)
			}
		})
	}
}

// TestExpiredKeyType shows that of two pairs the valid one is served.
func TestExpiredKeyType(t *testing.T) {
	dir := t.TempDir()
	lasting(t, dir, "a.example", devcert.ECDSA, -time.Hour)
	lasting(t, dir, "a.example", devcert.RSA2048, day)
	if cert := get(t, open(t, dir, sni.Options{}), "a.example"); cert.Leaf.PublicKeyAlgorithm.String() != "RSA" {
		t.Errorf("got the expired %v pair", cert.Leaf.PublicKeyAlgorithm)
	}
}

func TestRefreshAt(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	tests := []struct{ from, until, want time.Duration }{ // from now
		{0, 10 * day, 5 * day},         // half its time
		{-2 * day, 8 * day, 3 * day},   // also if some of it has passed
		{-8 * day, 2 * day, time.Hour}, // soon if half has
		{-9 * day, time.Hour, 30 * time.Minute},
		{-time.Minute, 30 * time.Second, time.Minute}, // but not at once
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.from, tt.until), func(t *testing.T) {
			if got := sni.RefreshAt(now.Add(tt.from), now.Add(tt.until), now).Sub(now); got != tt.want {
				t.Errorf("asks again in %v, want %v", got, tt.want)
			}
		})
	}
}
