package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// recipePassword is that of saslUser where a recipe's backend has users.
const recipePassword = "pass-phrase"

func TestRecipe_Postfix(t *testing.T) {
	t.Parallel()
	requirePostfixRecipe(t, "master.cf: port 25", "master.cf: port 25 with postscreen")
}

func TestRecipe_PostfixWithPostscreen(t *testing.T) {
	t.Parallel()
	requirePostfixRecipe(t, "master.cf: port 25 with postscreen", "master.cf: port 25")
}

// requirePostfixRecipe runs it with one of the two ways for port 25.
func requirePostfixRecipe(t *testing.T, mx, other string) {
	t.Helper()
	need(t, "postfix", "dovecot", "swaks")
	if !inRecipe(t) {
		return
	}
	certs := recipeCertificates(t)
	r := readRecipe(t, "postfix", []string{other}, "/certs", certs.dir)
	settings := r.block(t, "main.cf") + "inet_interfaces = all\n" // as Debian's: the ports alone say who can connect
	server := startPostfixServing(t, r.block(t, "master.cf")+r.block(t, mx), strings.Split(settings, "\n")...)
	startDovecot(t, server, recipePassword)
	requireRecipe(t, r, recipeBackend{process: server.process, maildir: server.maildir, password: recipePassword, ports: []string{"10587", "10025"}}, certs, true)
}

func TestRecipe_Exim(t *testing.T) {
	t.Parallel()
	need(t, "root", "exim", "swaks")
	if !inRecipe(t) {
		return
	}
	certs := recipeCertificates(t)
	passwords := filepath.Join(sharedDir(t), "passwd")
	r := readRecipe(t, "exim", nil, "/certs", certs.dir, "/etc/exim4/passwd", passwords)
	hash := runProgram(t, "openssl", "passwd", "-6", recipePassword)
	hash.requireCode(t, 0)
	writeFile(t, passwords, saslUser+":"+hash.output)
	server := newExim(t, eximLines{r.block(t, "main"), r.block(t, "acl_check_rcpt"), r.block(t, "authenticators")})
	server.proxied = "127.0.0.1:10587"
	server.run(t)
	requireRecipe(t, r, recipeBackend{process: server.process, maildir: server.maildir, password: recipePassword, ports: []string{"10587", "10025"}}, certs, true)
}

func TestRecipe_Dovecot(t *testing.T) {
	t.Parallel()
	need(t, "dovecot", "submission-login", "postfix", "swaks")
	if !inRecipe(t) {
		return
	}
	certs := recipeCertificates(t)
	r := readRecipe(t, "dovecot", nil, "/certs", certs.dir)
	mta := startPostfixServing(t, r.block(t, "master.cf"))
	server := &dovecotSubmission{address: "127.0.0.1:10587"}
	server.run(t, recipePassword, r.block(t, "dovecot.conf"))
	requireLongestHeader(t, server.address, 1500)
	requireRecipe(t, r, recipeBackend{process: server.process, maildir: mta.maildir, password: recipePassword, ports: []string{"10587", "10026"}}, certs, false)
}

func TestRecipe_OpenSMTPD(t *testing.T) {
	t.Parallel()
	need(t, "root", "opensmtpd", "unshare", "swaks")
	if !inRecipe(t) {
		return
	}
	certs := recipeCertificates(t)
	dir := sharedDir(t)
	mail := filepath.Join(dir, "mail")
	r := readRecipe(t, "opensmtpd", nil, "/certs", certs.dir, "/var/vmail", mail, "5000:5000", fmt.Sprintf("%d:%d", mailUser, mailUser))
	ownedDir(t, mail, 0o700, mailUser, mailUser)
	file := filepath.Join(dir, "smtpd.conf")
	writeFile(t, file, r.block(t, "smtpd.conf"))
	// What is compiled in is mounted: its programs, and folders that are empty.
	script := `set -e
for folder in /var/spool /var/lib /run; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
mkdir -p /var/lib/opensmtpd/empty /var/spool/smtpd
chmod 711 /var/spool/smtpd
mount --bind "$1/usr/libexec" /usr/libexec
exec "$1/usr/sbin/smtpd" -dv -f "$2"`
	command := exec.Command("unshare", "-m", "sh", "-c", script, "sh", opensmtpdFolder(), file)
	server := startProcess(t, "OpenSMTPD", filepath.Join(dir, "smtpd.log"), command)
	waitListening(t, server, "127.0.0.1:10025")
	box := maildir(filepath.Join(mail, "Maildir"))
	requireLongestHeader(t, "127.0.0.1:10025", 4096)
	requireRecipe(t, r, recipeBackend{process: server, maildir: box, ports: []string{"10025"}}, certs, true)
}

// requireLongestHeader has a server read a header as long as its preset lets
// them be. How Postfix and Exim hold to theirs, TestPresets_HoldAtTheirBounds says.
func requireLongestHeader(t *testing.T, address string, length int) {
	t.Helper()
	c := dial(t, address, "")
	c.mustSend(t, string(headerOf(length, tlvNoop)))
	c.mustGreet(t)
	c.mustEnd(t, 221, "QUIT")
}

// opensmtpdFolder is where test/install unpacks OpenSMTPD.
func opensmtpdFolder() string {
	path, err := filepath.Abs(filepath.Join(cacheFolder(), "opensmtpd"))
	if err != nil {
		return ""
	}
	return path
}

// TestRecipe_PostfixBetween: what is said for servers that can be told of no
// client. The old server is a Postfix that relays for all of loopback.
func TestRecipe_PostfixBetween(t *testing.T) {
	t.Parallel()
	need(t, "postfix", "dovecot", "swaks")
	if !inRecipe(t) {
		return
	}
	certs := recipeCertificates(t)
	old := startPostfix(t)
	handing := readRecipe(t, "sendmail-qmail", nil, "127.0.0.1]:2525", fmt.Sprintf("127.0.0.1]:%d", portOf(t, old.direct)))
	r := readRecipe(t, "postfix", []string{"master.cf: port 25 with postscreen"}, "/certs", certs.dir)
	services := r.block(t, "master.cf") + r.block(t, "master.cf: port 25") + "relay unix - - n - - smtp\n"
	settings := r.block(t, "main.cf") + handing.block(t, "main.cf: handing on") + "virtual_mailbox_domains =\n"
	server := startPostfixServing(t, services, strings.Split(settings, "\n")...)
	startDovecot(t, server, recipePassword)
	requireRecipe(t, r, recipeBackend{process: server.process, maildir: old.maildir, password: recipePassword, ports: []string{"10587", "10025"}}, certs, true)
}
