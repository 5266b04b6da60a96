package sni_test

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// TestFiftyAtOnce has fifty goroutines load, renew and remove what a cache too
// small for it holds. Nobody may get the certificate of another name, and in
// the end what is on disk must be in service.
func TestFiftyAtOnce(t *testing.T) {
	const folders = 24
	name := func(i int) string { return fmt.Sprintf("n%d.example", i) }
	dir := tree(t, "*.example")
	for i := range folders {
		renew(t, dir, name(i))
	}
	var r record
	s := open(t, dir, sni.Options{
		Default: "*.example", Cache: folders / 2, Rescan: 30 * time.Millisecond, Survey: 100 * time.Millisecond, Events: r.events(),
	})
	var writing [folders]sync.Mutex // who renews a folder is alone with it, in life as well
	again := func(i int) {
		if err := authority().WriteFolder(dir, name(i), devcert.Leaf{Names: []string{name(i)}}); err != nil {
			t.Error(err)
		}
	}
	until := time.Now().Add(2 * time.Second)
	var all sync.WaitGroup
	during := func(goroutines int, do func(i int)) {
		for range goroutines {
			all.Go(func() {
				for time.Now().Before(until) {
					do(rand.IntN(folders))
				}
			})
		}
	}
	during(36, func(i int) {
		cert, err := s.GetCertificate(&tls.ClientHelloInfo{ServerName: name(i)})
		if err != nil || cert == nil || cert.Leaf.VerifyHostname(name(i)) != nil {
			t.Errorf("%s: %v, %v", name(i), cert, err)
		}
	})
	during(4, func(i int) {
		writing[i].Lock()
		defer writing[i].Unlock()
		again(i)
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	})
	during(4, func(i int) {
		writing[i].Lock()
		defer writing[i].Unlock()
		if err := os.RemoveAll(filepath.Join(dir, name(i))); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
		again(i)
	})
	during(4, func(i int) {
		if id, _, err := s.Serve(t.Context(), s.Lookup(name(i))); err == nil {
			id.Config(i%3, func() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12} })
		}
	})
	during(2, func(int) {
		_ = s.Reload(t.Context()) // a folder may be gone or half written
		for range s.Loaded() {
		}
		s.ForgetConfigs()
		s.TellExpiring()
		time.Sleep(10 * time.Millisecond)
	})
	all.Wait()
	must(t, s.Reload(t.Context()))
	for i := range folders {
		want, err := os.ReadFile(filepath.Join(dir, name(i), "cert.pem"))
		must(t, err)
		eventually(t, "what is on disk is served for "+name(i), func() bool {
			return pemOf(get(t, s, name(i))) == string(want)
		})
	}
	if n := len(loaded(s)); n > folders/2+1 { // one more is being read at most
		t.Errorf("%d folders are loaded, the cache is for %d", n, folders/2)
	}
}
