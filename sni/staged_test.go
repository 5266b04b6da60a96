package sni_test

import (
	"crypto/ecdsa"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// directory makes a folder with a pair for each name.
func directory(t *testing.T, names ...string) string {
	t.Helper()
	ca, err := devcert.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range names {
		if err := ca.WriteFolder(dir, name, devcert.Leaf{Names: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func reports(t *testing.T, dir string, o sni.Options, names ...string) []sni.Report {
	t.Helper()
	all, err := sni.Check(dir, o, names...)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(all)
}

func TestCheck_StagedKeys(t *testing.T) {
	dir := directory(t, "a.example", "b.example")
	key, err := os.ReadFile(filepath.Join(dir, "b.example", "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "a.example")
	for name, text := range map[string][]byte{
		"next-key.pem": key, "next-key-rsa.pem": []byte("no key"), "next-key-dsa.pem": []byte("means nothing"),
		"next-keyrsa.pem": nil, "xnext-key.pem": nil, "next-key-.pem": nil, "next-key.pem.bak": nil,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := reports(t, dir, sni.Options{})
	a, b := all[0], all[1]
	if len(a.Staged) != 1 || a.Staged[0].File != "next-key.pem" {
		t.Fatalf("staged: %v, want next-key.pem", a.Staged)
	}
	if !b.Certificates[0].Leaf.PublicKey.(*ecdsa.PublicKey).Equal(a.Staged[0].Public) {
		t.Error("the staged key is another")
	}
	if a.Err != nil || len(a.Certificates) != 1 {
		t.Errorf("a staged key that is broken keeps the folder out of service: %v", a.Err)
	}
	if len(a.Warnings) != 1 || !strings.HasPrefix(a.Warnings[0], filepath.Join(folder, "next-key-rsa.pem")+": ") {
		t.Errorf("warnings %q, want one of next-key-rsa.pem", a.Warnings)
	}
	if b.Staged != nil || b.Warnings != nil {
		t.Errorf("of a folder without staged keys: %+v", b)
	}
}

func TestCheck_StagedKeyAlone(t *testing.T) {
	dir := directory(t, "a.example", "b.example")
	folder := filepath.Join(dir, "b.example")
	if err := os.Rename(filepath.Join(folder, "key.pem"), filepath.Join(folder, "next-key.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(folder, "cert.pem")); err != nil {
		t.Fatal(err)
	}
	if b := reports(t, dir, sni.Options{}, "b.example")[0]; b.Err == nil || len(b.Staged) != 1 {
		t.Errorf("error %v and staged %v, want an error and a key", b.Err, b.Staged)
	}
}

func TestCheck_Only(t *testing.T) {
	dir := directory(t, "a.example", "b.example", "_.w.example")
	if err := os.Mkdir(filepath.Join(dir, "Upper.example"), 0o755); err != nil {
		t.Fatal(err)
	}
	all := reports(t, dir, sni.Options{Default: "b.example"}, "c.example", "b.example", "*.w.example", "c.example")
	var folders []string
	for _, report := range all {
		folders = append(folders, report.Folder)
		if report.Default != (report.Folder == "b.example") {
			t.Errorf("%s is the default: %v", report.Folder, report.Default)
		}
	}
	if want := []string{"_.w.example", "b.example", "c.example"}; !slices.Equal(folders, want) {
		t.Fatalf("folders %q, want %q", folders, want)
	}
	if err := all[2].Err; !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no such folder") {
		t.Errorf("of a folder that is not there: %v", err)
	}
	if only := reports(t, directory(t, "a.example"), sni.Options{}); !only[0].Default {
		t.Error("the only folder is not the default")
	}
}

func TestCheck_ManySideBySide(t *testing.T) {
	var names []string
	for c := 'a'; c <= 'z'; c++ {
		names = append(names, string(c)+".example", string(c)+"z.example")
	}
	dir := directory(t, names...)
	var found []string
	for _, report := range reports(t, dir, sni.Options{}) {
		found = append(found, report.Folder)
	}
	if !slices.Equal(found, names) {
		t.Errorf("in the order %q, want %q", found, names)
	}
	all, err := sni.Check(dir, sni.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range all { // what was begun ends with it: TestMain looks for goroutines
		break
	}
}

func TestFolderName(t *testing.T) {
	for name, want := range map[string]string{
		"mail.example.com": "mail.example.com", "Mail.Example": "mail.example", "*.W.example": "*.w.example", "_.w.example": "_.w.example", "localhost": "localhost",
	} {
		if got, err := sni.FolderName(name); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", name, got, err, want)
		}
	}
	for name, mend := range map[string]string{
		"müller.example": "xn--mller-kva.example", "": "", "a.example.": "", "192.0.2.1": "", "../x": "", ".ca": "", "*": "", "x.*.example": "", "a\x00b": "", "\xff.example": "",
	} {
		if got, err := sni.FolderName(name); got != mend || err == nil {
			t.Errorf("%q: %q, %v; want an error and %q", name, got, err, mend)
		}
	}
}

func TestPairs(t *testing.T) {
	got := sni.Pairs([]string{"README", "ca.pem", "cert-rsa.pem", "fullchain.pem", "next-key.pem", "privkey.pem", "x.pem.ecdsa"})
	want := [][]string{{"fullchain.pem", "privkey.pem"}, {"cert-rsa.pem", "key-rsa.pem"}, {"x.pem.ecdsa"}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("pairs %q, want %q", got, want)
	}
}
