package sni_test

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority signs all certificates of the tests.
var authority = sync.OnceValue(func() *devcert.CA {
	ca, err := devcert.NewCA("sni test")
	if err != nil {
		panic(err)
	}
	return ca
})

// issue returns a new chain and key for names.
func issue(t testing.TB, names ...string) (chain, key []byte) {
	t.Helper()
	chain, key, err := authority().Issue(devcert.Leaf{Names: names})
	must(t, err)
	return chain, key
}

// tree makes a certificate directory with a folder for each name.
func tree(t testing.TB, folders ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range folders {
		renew(t, dir, folder)
	}
	return dir
}

// renew writes a new cert.pem and key.pem, each renamed over the old one.
func renew(t testing.TB, dir, folder string) {
	t.Helper()
	must(t, authority().WriteFolder(dir, folder, devcert.Leaf{Names: []string{certName(folder)}}))
}

func certName(folder string) string {
	if len(folder) > 2 && folder[:2] == "_." {
		return "*" + folder[1:]
	}
	return folder
}

func open(t testing.TB, dir string, o sni.Options) *sni.Store {
	t.Helper()
	return openHooked(t, dir, o, sni.Hooks{})
}

func openHooked(t testing.TB, dir string, o sni.Options, h sni.Hooks) *sni.Store {
	t.Helper()
	if o.Survey == 0 {
		o.Survey = never // tests count what is opened
	}
	s, err := sni.OpenHooked(dir, o, h)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// get asks as a handshake does.
func get(t testing.TB, s *sni.Store, name string) *tls.Certificate {
	t.Helper()
	cert, err := s.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	must(t, err)
	if cert == nil {
		t.Fatalf("no certificate for %q", name)
	}
	return cert
}

func serial(cert *tls.Certificate) string { return cert.Leaf.SerialNumber.String() }

// served reports whether name gets another certificate than old.
func served(t testing.TB, s *sni.Store, name string, old *tls.Certificate) func() bool {
	return func() bool { return serial(get(t, s, name)) != serial(old) }
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within ten seconds: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func write(t testing.TB, data []byte, path ...string) {
	t.Helper()
	file := filepath.Join(path...)
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, data, 0o600))
}

// relink switches a symlink as certbot and the kubelet do.
func relink(t testing.TB, target, link string) {
	t.Helper()
	must(t, os.Symlink(target, link+"_tmp"))
	must(t, os.Rename(link+"_tmp", link))
}

// record keeps the events of a store as lines.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) add(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}

func (r *record) events() sni.Events {
	return sni.Events{
		Indexed: func(n int) { r.add("indexed %d", n) },
		Loaded:  func(folder string, _ *sni.Identity) { r.add("loaded %s", folder) },
		Renewed: func(folder string, _ *sni.Identity) { r.add("renewed %s", folder) },
		Evicted: func(folder string) { r.add("evicted %s", folder) },
		Removed: func(folder string) { r.add("removed %s", folder) },
		Failed:  func(folder string, err error) { r.add("failed %s: %v", folder, err) },
		Warning: func(folder, text string) { r.add("warning %s: %s", folder, text) },
		Expiry: func(folder string, all []sni.Expiry) {
			for _, e := range all {
				r.add("expiry %s: %s %s", folder, e.KeyType, e.NotAfter.Format(time.DateOnly))
			}
		},
		Expiring: func(folder string, e sni.Expiry, days int) { r.add("expiring %s: %s %d", folder, e.KeyType, days) },
		Stapled:  func(folder string, _ *tls.Certificate, _ time.Time) { r.add("stapled %s", folder) },
	}
}

// count returns how many lines begin with prefix.
func (r *record) count(prefix string) int {
	n := 0
	for _, line := range r.all() {
		if len(line) >= len(prefix) && line[:len(prefix)] == prefix {
			n++
		}
	}
	return n
}

func (r *record) has(prefix string) func() bool { return func() bool { return r.count(prefix) > 0 } }

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

// underLoad does handshakes for names from several goroutines until the test
// ends, and fails it if one does not get a valid certificate of its own.
func underLoad(t *testing.T, s *sni.Store, names ...string) {
	t.Helper()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var done atomic.Int64
	for i := range 4 {
		name := names[i%len(names)]
		server, client := serverConfig(s), &tls.Config{ServerName: name, RootCAs: authority().Pool()}
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				if _, _, err := connect(server, client); err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				done.Add(1)
			}
		})
	}
	t.Cleanup(func() {
		close(stop)
		clients.Wait()
		t.Logf("%d handshakes meanwhile", done.Load())
	})
}
