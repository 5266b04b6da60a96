package sni_test

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// benchTree makes n folders.
func benchTree(b *testing.B, n int) (dir string, hellos []*tls.ClientHelloInfo) {
	b.Helper()
	dir = b.TempDir()
	for i := range n {
		name := fmt.Sprintf("n%d.example", i)
		renew(b, dir, name)
		hellos = append(hellos, &tls.ClientHelloInfo{ServerName: name})
	}
	return dir, hellos
}

// BenchmarkWarm is what a handshake with a loaded pair costs here.
func BenchmarkWarm(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, hellos := benchTree(b, n)
			s := open(b, dir, sni.Options{Default: "n0.example", Rescan: never})
			for _, hello := range hellos {
				get(b, s, hello.ServerName)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				_, _ = s.GetCertificate(hellos[i%n])
			}
		})
	}
}

// BenchmarkCold is what a name costs that is not in memory: a cache of one
// makes every name so, and puts the eviction on top.
func BenchmarkCold(b *testing.B) {
	dir, hellos := benchTree(b, 100)
	s := open(b, dir, sni.Options{Default: "n0.example", Rescan: never, Cache: 1})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := s.GetCertificate(hellos[1+i%(len(hellos)-1)]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnknown is a name that no folder is for.
func BenchmarkUnknown(b *testing.B) {
	s := open(b, tree(b, "a.example"), sni.Options{Rescan: never})
	hello := &tls.ClientHelloInfo{ServerName: "unknown.example"}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.GetCertificate(hello)
	}
}
