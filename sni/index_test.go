package sni_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// TestManyFolders looks every name of a large index up, and as many that are
// not in it.
func TestManyFolders(t *testing.T) {
	var folders []string
	for i := range 50_000 {
		folders = append(folders, fmt.Sprintf("n%d.example", i), fmt.Sprintf("*.n%d.example", i))
	}
	lookup := sni.NewLookup(folders)
	for i := range 50_000 {
		exact, wildcard := fmt.Sprintf("n%d.example", i), fmt.Sprintf("*.n%d.example", i)
		if m := lookup(exact); m.Kind != sni.Exact || m.Folder != exact {
			t.Fatalf("%s: %+v", exact, m)
		}
		if m := lookup("a" + wildcard[1:]); m.Kind != sni.Wildcard || m.Folder != wildcard {
			t.Fatalf("%s: %+v", wildcard, m)
		}
		for _, unknown := range []string{"x" + exact, "a.b" + wildcard[1:]} {
			if m := lookup(unknown); m.Kind != sni.None {
				t.Fatalf("%s: %+v", unknown, m)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { lookup("a.n1.example") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestIndexSize holds what a folder costs that nobody asked for.
func TestIndexSize(t *testing.T) {
	var folders []string
	for i := range 100_000 {
		folders = append(folders, fmt.Sprintf("mail%06d.customer.example", i))
	}
	if each := sni.IndexSize(folders) / len(folders); each > 100 {
		t.Errorf("%d bytes for a folder", each)
	}
}

// FuzzFolderName holds that a folder that is accepted is found by its own
// name, or by the names that its wildcard stands for, and by no other.
func FuzzFolderName(f *testing.F) {
	for _, folder := range append(hostile[:len(hostile)-2:len(hostile)-2], "a.example", "*.example.com", "_.example.com", "_a.example", "*.", "_.", "*._.x", "_.*.x", "xn--mller-kva.example", "Mail.example") {
		f.Add(folder, "a.example")
		f.Add(folder, "a."+folder)
	}
	f.Fuzz(func(t *testing.T, folder, serverName string) {
		if sni.CheckFolderName(folder) != nil {
			return
		}
		if strings.ToLower(folder) != folder || strings.ContainsAny(folder, "/\x00\\ \n") || strings.HasPrefix(folder, ".") {
			t.Fatalf("%q was accepted", folder)
		}
		lookup := sni.NewLookup([]string{folder})
		parent, isWildcard := strings.CutPrefix(folder, "*.")
		if !isWildcard {
			parent, isWildcard = strings.CutPrefix(folder, "_.")
		}
		own := folder
		if isWildcard {
			own = "a." + parent
		}
		if len(own) <= 253 {
			if m := lookup(own); m.Name != sni.NameKnown || m.Folder != folder || (m.Kind == sni.Wildcard) != isWildcard {
				t.Fatalf("folder %q is not found as %q: %+v", folder, own, m)
			}
		}
		name, ok := sni.ServerName(serverName)
		first, rest, _ := strings.Cut(name, ".")
		want := ok && (!isWildcard && name == folder || isWildcard && first != "" && rest == parent)
		if m := lookup(serverName); (m.Name == sni.NameKnown) != want {
			t.Fatalf("folder %q, server name %q: %+v", folder, serverName, m)
		}
	})
}
