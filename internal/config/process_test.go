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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
