package config_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

func TestProcessUser(t *testing.T) {
	t.Parallel()
	const head = "certificates: {directory: /certs}\nlisteners: [{name: one, address: \":465\", mode: implicit}]\nbackends: {mta: {addresses: [\"127.0.0.1:25\"]}}\nprocess: {user: "
	for _, test := range []struct{ user, want string }{
		{`smtp-tlsproxy`, ""},
		{`_proxy`, ""},
		{`"993"`, ""},
		{`"993:994"`, ""},
		{`"0"`, "is root"},
		{`"000:5"`, "is root"},
		{`"4294967295"`, "is not a user"},
		{`"993:"`, "is not a user"},
		{`"993:mail"`, "is not a user"},
		{`"-1"`, "is not a user"},
		{`"a b"`, "is not a user"},
		{`"mail:mail"`, "is not a user"},
	} {
		got := faultsOf(t, []byte(head+test.user+"}\n"))
		if test.want == "" && got != "" || !strings.Contains(got, test.want) {
			t.Errorf("user %s: got %q, want %q", test.user, got, test.want)
		}
	}
}

// TestR89_FileThatAnyoneCanWriteIsRefused: whoever writes the configuration
// decides who gets the mail.
func TestR89_FileThatAnyoneCanWriteIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		file, dir fs.FileMode
		want      string // "" for none
	}{
		{"nobody else", 0o600, 0o700, ""},
		{"the group writes", 0o660, 0o770, ""},
		{"all read", 0o644, 0o755, ""},
		{"all write", 0o646, 0o755, "can be written by every user of this machine: chmod o-w FILE"},
		{"all replace", 0o644, 0o757, "in a folder where every user of this machine can replace it: chmod o-w DIR"},
		{"all add", 0o644, 0o777 | fs.ModeSticky, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "dir")
			file := filepath.Join(dir, "config.yaml")
			link := filepath.Join(t.TempDir(), "link.yaml")
			must(t, os.Mkdir(dir, 0o700))
			must(t, os.WriteFile(file, read(t, "testdata/good/minimal.yaml"), 0o600))
			must(t, os.Symlink(file, link))
			must(t, os.Chmod(file, test.file))
			must(t, os.Chmod(dir, test.dir))
			for _, name := range []string{file, link} {
				want := strings.NewReplacer("FILE", name, "DIR", dir).Replace(test.want)
				_, err := config.Load(name)
				if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
					t.Errorf("%s: got %v, want %q", name, err, want)
				}
			}
		})
	}
}

// TestR89_EveryFolderOnTheWayCounts: it is enough to write one of them to put
// another file where the program looks.
func TestR89_EveryFolderOnTheWayCounts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ open, name string }{
		{"above", "above/below/config.yaml"},
		{"above", "link"},
		{"of-links", "link"},               // link → of-links/link → above/below/config.yaml
		{"of-links", "folder/config.yaml"}, // folder → of-links/folder → above/below
		{"above", "folder/../below/config.yaml"},
		{"beside", "link"},
		{"beside", "folder/config.yaml"},
		{"beside", "above/below/config.yaml"},
	} {
		t.Run(test.open+" for "+test.name, func(t *testing.T) {
			t.Parallel()
			top, err := filepath.EvalSymlinks(t.TempDir())
			must(t, err)
			in := func(name string) string { return top + "/" + name }
			must(t, os.MkdirAll(in("above/below"), 0o700))
			must(t, os.WriteFile(in("above/below/config.yaml"), read(t, "testdata/good/minimal.yaml"), 0o600))
			must(t, os.Mkdir(in("of-links"), 0o700))
			must(t, os.Mkdir(in("beside"), 0o700))
			must(t, os.Symlink("of-links/link", in("link")))
			must(t, os.Symlink("../above/below/config.yaml", in("of-links/link")))
			must(t, os.Symlink(in("of-links/folder"), in("folder")))
			must(t, os.Symlink("../above/below", in("of-links/folder")))
			if _, err := config.Load(in(test.name)); err != nil {
				t.Fatalf("before a folder is open: %v", err)
			}
			must(t, os.Chmod(in(test.open), 0o777))
			_, err = config.Load(in(test.name))
			if test.open == "beside" {
				must(t, err)
			} else if err == nil || !strings.HasSuffix(err.Error(), "can replace it: chmod o-w "+in(test.open)) {
				t.Errorf("got %v", err)
			}
			must(t, os.Chmod(in(test.open), 0o777|fs.ModeSticky))
			_, err = config.Load(in(test.name))
			must(t, err)
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
