package test

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mailUser is the user id that owns delivered messages; it needs no account.
const mailUser = 5000

// postfix is a Postfix of its own: configuration, queue and mailbox in one
// temporary folder. It delivers the test domains' mail into one Maildir,
// discards all other mail, and asks no DNS.
type postfix struct {
	*process
	maildir
	dir     string // its configuration and all else
	queue   string
	direct  string // smtpd without a PROXY header
	proxied string // smtpd that wants a PROXY header
}

func postfixMaster() string {
	directory, err := postconf("-d", "-h", "daemon_directory")
	if err != nil {
		return ""
	}
	return filepath.Join(directory, "master")
}

func postconf(arguments ...string) (string, error) {
	program, err := lookPath("postconf")
	if err != nil {
		return "", err
	}
	output, err := exec.Command(program, arguments...).Output()
	return strings.TrimSpace(string(output)), err
}

// startPostfix starts Postfix; settings are lines for main.cf besides ours.
func startPostfix(t testing.TB, settings ...string) *postfix {
	t.Helper()
	return startPostfixServing(t, "", settings...)
}

// startPostfixServing starts it with lines for master.cf besides ours, too.
func startPostfixServing(t testing.TB, services string, settings ...string) *postfix {
	t.Helper()
	need(t, "root", "postfix")
	dir := sharedDir(t)
	queue := filepath.Join(dir, "queue")
	makePostfixQueue(t, queue)
	mail := filepath.Join(dir, "mail")
	ownedDir(t, mail, 0o700, mailUser, mailUser)
	log := filepath.Join(dir, "postfix.log")
	direct, proxied := loopback(t), loopback(t)

	writeFile(t, filepath.Join(dir, "main.cf"), fmt.Sprintf(postfixMain, dir, mailUser)+strings.Join(settings, "\n")+"\n")
	writeFile(t, filepath.Join(dir, "master.cf"), fmt.Sprintf(postfixServices, direct, proxied)+services)
	// Postfix reads a file that changed within the last second again and again.
	past := time.Now().Add(-time.Minute)
	for _, name := range []string{"main.cf", "master.cf"} {
		if err := os.Chtimes(filepath.Join(dir, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, log, "")
	ownedDir(t, filepath.Join(dir, "data"), 0o700, postfixUser(t, "postfix"), -1)

	p := &postfix{
		maildir: maildir(filepath.Join(mail, "inbox")),
		dir:     dir, queue: queue, direct: direct, proxied: proxied,
	}
	p.start(t)
	return p
}

// start begins the process, at first or after kill.
func (p *postfix) start(t testing.TB) {
	t.Helper()
	// -s leaves standard output open; master goes into no background.
	command := exec.Command(postfixMaster(), "-c", p.dir, "-s")
	p.process = startProcess(t, "Postfix", filepath.Join(p.dir, "postfix.log"), command)
	waitListening(t, p.process, p.direct)
}

// queued lists the files of messages that wait or are being taken in.
func (p *postfix) queued(t testing.TB) []string {
	t.Helper()
	var files []string
	for _, queue := range []string{"maildrop", "incoming", "active", "deferred", "hold", "corrupt"} {
		err := filepath.WalkDir(filepath.Join(p.queue, queue), func(path string, entry os.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				files = append(files, path)
			}
			return nil // a file may leave while we look
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/postfix.log
maillog_file_prefixes = %[1]s
myhostname = postfix.test
mydestination =
inet_interfaces = loopback-only
mynetworks = 127.0.0.0/8 [::1]/128
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = a.example b.example c.example w.example
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:%[2]d
virtual_gid_maps = static:%[2]d
default_transport = discard:mail never leaves a test
relay_transport = discard:mail never leaves a test
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions =
smtpd_tls_security_level = none
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
smtpd_client_message_rate_limit = 0
smtputf8_enable = yes
local_header_rewrite_clients =
append_dot_mydomain = no
in_flow_delay = 0
notify_classes =
`

const postfixServices = `%[1]s inet n - n - - smtpd
%[2]s inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
virtual unix - n n - - virtual
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
`

// makePostfixQueue makes the queue folders that "postfix check" would make,
// without its half a second.
func makePostfixQueue(t testing.TB, queue string) {
	t.Helper()
	owner := postfixUser(t, "postfix")
	group, err := user.LookupGroup("postdrop")
	if err != nil {
		t.Fatal(err)
	}
	postdrop, err := strconv.Atoi(group.Gid)
	if err != nil {
		t.Fatal(err)
	}
	ownedDir(t, queue, 0o755, 0, 0)
	ownedDir(t, filepath.Join(queue, "pid"), 0o755, 0, 0)
	for _, name := range []string{"active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"} {
		ownedDir(t, filepath.Join(queue, name), 0o700, owner, 0)
	}
	ownedDir(t, filepath.Join(queue, "public"), 0o2710, owner, postdrop)
	ownedDir(t, filepath.Join(queue, "maildrop"), 0o1730, owner, postdrop)
}

func postfixUser(t testing.TB, name string) int {
	t.Helper()
	account, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.Atoi(account.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// ownedDir makes a folder with the owner and the mode as chmod(1) writes it.
func ownedDir(t testing.TB, path string, mode os.FileMode, uid, gid int) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, uid, gid); err != nil {
		t.Fatal(err)
	}
	full := mode & 0o777
	if mode&0o2000 != 0 {
		full |= os.ModeSetgid
	}
	if mode&0o1000 != 0 {
		full |= os.ModeSticky
	}
	if err := os.Chmod(path, full); err != nil {
		t.Fatal(err)
	}
}
