package proxy_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(certificates().dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// tree is a certificate directory, shared by all tests, which do not change it.
type tree struct {
	dir string
	ca  *devcert.CA
}

// certificates makes the folders that the tests ask for. The first is the
// default.
var certificates = sync.OnceValue(func() tree {
	ca, err := devcert.NewCA("proxy test")
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "smtp-tlsproxy-certs-")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"mail.example", "a.example", "*.wild.example"} {
		if err := ca.WriteFolder(dir, name, devcert.Leaf{Names: []string{name}}); err != nil {
			panic(err)
		}
	}
	return tree{dir, ca}
})

// openStore opens the shared folders until the test ends.
func openStore(t testing.TB) *sni.Store {
	t.Helper()
	return openStoreOf(t, certificates().dir, "mail.example")
}

func openStoreOf(t testing.TB, dir, byDefault string) *sni.Store {
	t.Helper()
	store, err := sni.Open(dir, sni.Options{Default: byDefault, Rescan: -1})
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	return store
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
