package test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	needs "github.com/smtp-tlsproxy/smtp-tlsproxy/internal/need"
)

// exim is an Exim of its own. It wants a PROXY header of every client, reads
// at most 232 bytes of it, and delivers the test domains' mail into one
// Maildir.
type exim struct {
	*process
	maildir
	log           string
	configuration string
	proxied       string
}

// eximAccount is compiled into Debian's Exim.
const eximAccount = "Debian-exim"

// cacheFolder is where test/install puts what is not the machine's own.
func cacheFolder() string {
	return cmp.Or(os.Getenv("TLSPROXY_TEST_CACHE"), filepath.Join("..", ".cache"))
}

// eximBinary is where test/install unpacks Exim, or the machine's own.
func eximBinary() string {
	path, err := filepath.Abs(filepath.Join(cacheFolder(), "exim", "usr", "sbin", "exim4"))
	if err != nil || !isFile(path) {
		return "/usr/sbin/exim4"
	}
	return path
}

func startExim(t testing.TB) *exim {
	t.Helper()
	e := newExim(t, eximLines{main: eximProxied})
	e.proxied = loopback(t)
	e.start(t)
	return e
}

// eximLines are what is added to the configuration: to its main section, at
// the top of the ACL for recipients, and as authenticators.
type eximLines struct{ main, acl, authenticators string }

// eximProxied has every client of 127.0.0.1 send a PROXY header.
const eximProxied = `local_interfaces = 127.0.0.1
hosts_proxy = 127.0.0.1
tls_advertise_hosts =
log_selector = +proxy +smtp_connection +incoming_port +received_recipients
`

// newExim makes the folders and the configuration of an Exim.
func newExim(t testing.TB, lines eximLines) *exim {
	t.Helper()
	need(t, "root", "exim")
	account, err := user.Lookup(eximAccount)
	if err != nil {
		needs.Missing(t, "the user "+eximAccount+", without which Exim does not run")
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		t.Fatal(err)
	}
	dir := sharedDir(t)
	for _, name := range []string{"spool", "log", "mail"} {
		ownedDir(t, filepath.Join(dir, name), 0o755, uid, -1)
	}
	log := filepath.Join(dir, "log", "main") // Exim writes it under its own account
	writeFile(t, log, "")
	if err := os.Chown(log, uid, -1); err != nil {
		t.Fatal(err)
	}
	e := &exim{
		maildir: maildir(filepath.Join(dir, "mail", "inbox")),
		log:     log, configuration: filepath.Join(dir, "exim.conf"),
	}
	writeFile(t, e.configuration, fmt.Sprintf(eximConfiguration, dir, eximBinary(), lines.main, lines.acl, lines.authenticators))
	return e
}

// start begins the process, at first or after kill.
func (e *exim) start(t testing.TB) {
	t.Helper()
	e.run(t, "-oX", strconv.Itoa(portOf(t, e.proxied)))
}

// run begins the process, with more arguments.
func (e *exim) run(t testing.TB, arguments ...string) {
	t.Helper()
	// -bdf: a daemon in the foreground. Given by root, -C needs no list of
	// trusted files.
	command := exec.Command(eximBinary(), append([]string{"-C", e.configuration, "-bdf"}, arguments...)...)
	e.process = startProcess(t, "Exim", e.log, command)
	waitListening(t, e.process, e.proxied)
}

// runQueue delivers what an Exim that was killed had taken and not delivered.
func (e *exim) runQueue(t testing.TB) {
	t.Helper()
	runProgram(t, eximBinary(), "-C", e.configuration, "-q").requireCode(t, 0)
}

// deliver_drop_privilege keeps Exim from executing itself again for each
// delivery, which would need the set-user-id bit and a trusted configuration.
const eximConfiguration = `exim_path = %[2]s
exim_user = Debian-exim
exim_group = Debian-exim
primary_hostname = exim.test
spool_directory = %[1]s/spool
log_file_path = %[1]s/log/%%s
pid_file_path = %[1]s/exim.pid
proxy_protocol_timeout = 3s
deliver_drop_privilege = true
keep_environment =
add_environment =
host_lookup =
rfc1413_query_timeout = 0s
chunking_advertise_hosts = *
smtp_accept_max = 200
smtp_accept_max_per_connection = 1000
smtp_accept_queue_per_connection = 0
message_logs = false
%[3]sdomainlist ours = a.example : b.example : c.example : w.example
acl_smtp_rcpt = check_rcpt
acl_smtp_data = accept

begin acl
check_rcpt:
%[4]s  accept domains = +ours
  deny message = relay not permitted

begin routers
inbox:
  driver = accept
  domains = +ours
  transport = inbox
elsewhere:
  driver = redirect
  data = :blackhole:

begin transports
inbox:
  driver = appendfile
  directory = %[1]s/mail/inbox
  create_directory
  maildir_format
  user = Debian-exim
  group = Debian-exim

begin authenticators
%[5]s`
