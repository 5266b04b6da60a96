package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// nginxMail is where Debian puts the module.
const nginxMail = "/usr/lib/nginx/modules/ngx_mail_module.so"

var oldConfiguration = regexp.MustCompile("(?ms)^<!-- before: ([^>]+?) -->\n```[a-z]*\n(.*?)^```$")

// TestMigration_OldConfigurations: what docs/migration.md begins with is what
// the old program itself takes. That the new configurations load is held in
// internal/config. stunnel has no check: it would have to be started.
func TestMigration_OldConfigurations(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "migration.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]string{}
	for _, block := range oldConfiguration.FindAllStringSubmatch(string(page), -1) {
		blocks[block[1]] = block[2]
	}
	for name, check := range map[string]func(t *testing.T, text string){"nginx.conf": nginxTakes, "haproxy.cfg": haproxyTakes} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if blocks[name] == "" {
				t.Fatalf("docs/migration.md has no block %s", name)
			}
			check(t, blocks[name])
		})
	}
}

// replaced puts a text's paths and ports to where a test may have them.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("there is no %q to replace in:\n%s", pairs[i], text)
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func nginxTakes(t *testing.T, text string) {
	need(t, "nginx-mail")
	program, err := lookPath("nginx")
	if err != nil {
		t.Fatal(err)
	}
	certs := newCertificates(t)
	dir := t.TempDir()
	folder := filepath.Join(certs.dir, domains[0])
	file := filepath.Join(dir, "nginx.conf")
	writeFile(t, file, replaced(t, text, // it binds what it listens on
		"modules/ngx_mail_module.so", nginxMail, "listen 465 ", "listen unix:"+dir+"/465 ", "listen 587;", "listen unix:"+dir+"/587;", "listen 25;", "listen unix:"+dir+"/25;",
		"/etc/ssl/mail.example.com/fullchain.pem", filepath.Join(folder, "cert.pem"), "/etc/ssl/mail.example.com/privkey.pem", filepath.Join(folder, "key.pem")))
	takes(t, program, "-t", "-e", "stderr", "-g", "pid "+dir+"/pid;", "-c", file)
}

func haproxyTakes(t *testing.T, text string) {
	need(t, "haproxy")
	program, err := lookPath("haproxy")
	if err != nil {
		t.Fatal(err)
	}
	certs := newCertificates(t)
	dir := t.TempDir()
	chain, key, err := certs.ca.Issue(devcert.Leaf{Names: []string{"mail.example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "certs", "mail.example.com.pem"), string(chain)+string(key))
	file := filepath.Join(dir, "haproxy.cfg")
	writeFile(t, file, replaced(t, text, "/etc/haproxy/certs/", filepath.Join(dir, "certs")+"/"))
	takes(t, program, "-c", "-f", file)
}

// takes runs a program's own check.
func takes(t *testing.T, program string, arguments ...string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), program, arguments...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", program, err, output)
	}
}
