package test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestRecipe_Haraka(t *testing.T) {
	t.Parallel()
	need(t, "node", "haraka", "postfix", "openssl", "swaks")
	if !inRecipe(t) {
		return
	}
	certs := recipeCertificates(t)
	dir := filepath.Join(sharedDir(t), "haraka")
	program := filepath.Join(nodeModules(), "Haraka", "bin", "haraka")
	runProgram(t, "node", program, "-i", dir).requireCode(t, 0)
	mta := startPostfix(t)
	_, port, err := net.SplitHostPort(mta.direct)
	if err != nil {
		t.Fatal(err)
	}
	r := readRecipe(t, "haraka", nil, "/certs", certs.dir, "/etc/haraka", dir, "10026", port, "PASSWORD", recipePassword)
	for _, name := range []string{"plugins", "smtp.ini", "auth_flat_file.ini", "host_list", "smtp_forward.ini", "log.ini"} {
		writeFile(t, filepath.Join(dir, "config", name), r.block(t, name))
	}
	file := filepath.Join(dir, "config", "connection.ini")
	made, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, string(made)+r.block(t, "connection.ini: added"))
	runProgram(t, "sh", "-ec", r.block(t, "certificate")).requireCode(t, 0)
	server := startProcess(t, "Haraka", filepath.Join(dir, "haraka.log"), exec.Command("node", program, "-c", dir))
	for _, port := range []string{"10587", "10025"} {
		waitListening(t, server, "127.0.0.1:"+port)
	}
	// The client has an address that Haraka takes for a private one.
	backend := recipeBackend{process: server, maildir: mta.maildir, password: recipePassword, ports: []string{"10587", "10025"}, authOn25: true}
	requireRecipe(t, r, backend, certs, true)
	if line := lineWith(server.logged(), base64Of(recipePassword)); line != "" {
		t.Errorf("the log tells the password: %s", line)
	}
}

func TestRecipe_SMTPServer(t *testing.T) {
	t.Parallel()
	need(t, "node", "smtp-server", "swaks")
	if !inRecipe(t) {
		return
	}
	certs := recipeCertificates(t)
	dir := sharedDir(t)
	box := maildir(filepath.Join(dir, "mail"))
	ownedDir(t, filepath.Join(string(box), "new"), 0o755, 0, 0)
	r := readRecipe(t, "smtp-server", nil, "/certs", certs.dir, "/var/mail/in", filepath.Join(string(box), "new"), "PASSWORD", recipePassword)
	file := filepath.Join(dir, "server.mjs")
	writeFile(t, file, r.block(t, "server.mjs"))
	if err := os.Symlink(nodeModules(), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	server := startProcess(t, "smtp-server", filepath.Join(dir, "server.log"), exec.Command("node", file))
	for _, port := range []string{"10587", "10025"} {
		waitListening(t, server, "127.0.0.1:"+port)
	}
	requireRecipe(t, r, recipeBackend{process: server, maildir: box, password: recipePassword, ports: []string{"10587", "10025"}}, certs, true)
}

// nodeModules is where test/install has npm put the servers on Node.js.
func nodeModules() string {
	path, err := filepath.Abs(filepath.Join(cacheFolder(), "npm", "node_modules"))
	if err != nil {
		return ""
	}
	return path
}

func hasModule(name string) func() bool {
	return func() bool { return isFile(filepath.Join(nodeModules(), name, "package.json")) }
}
