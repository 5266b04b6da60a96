package test

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// dovecotSubmission is the submission server of Dovecot, which wants a PROXY
// header and offers AUTH only where that says TLS. It knows one user.
type dovecotSubmission struct {
	*process
	address string
}

// startDovecotSubmission starts it in front of another server, for which it
// is the only client.
func startDovecotSubmission(t testing.TB, relay, password string) *dovecotSubmission {
	t.Helper()
	host, port, err := net.SplitHostPort(relay)
	if err != nil {
		t.Fatal(err)
	}
	d := &dovecotSubmission{address: loopback(t)}
	d.run(t, password, fmt.Sprintf(dovecotProxied, portOf(t, d.address), host, port))
	return d
}

// run starts it with lines of configuration besides ours.
func (d *dovecotSubmission) run(t testing.TB, password, lines string) {
	t.Helper()
	need(t, "root", "dovecot", "submission-login")
	program, err := lookPath("dovecot")
	if err != nil {
		t.Fatal(err)
	}
	dir := sharedDir(t)
	ownedDir(t, filepath.Join(dir, "home"), 0o700, mailUser, mailUser)
	writeFile(t, filepath.Join(dir, "users"), saslUser+":{PLAIN}"+password+"\n")
	file := filepath.Join(dir, "dovecot.conf")
	writeFile(t, file, fmt.Sprintf(dovecotSubmissionConfiguration, dir, mailUser)+lines)
	d.process = startProcess(t, "Dovecot", filepath.Join(dir, "dovecot.log"), exec.Command(program, "-F", "-c", file))
	waitListening(t, d.process, d.address)
}

// dovecotSubmissionLogin is there where Debian's package is.
const dovecotSubmissionLogin = "/usr/lib/dovecot/submission-login"

const dovecotSubmissionConfiguration = `base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = /dev/stderr
auth_mechanisms = plain login
auth_failure_delay = 0
hostname = dovecot.test
login_log_format_elements = user=<%%u> client=%%r port=%%b listener=%%l listenerport=%%a name=<%%{local_name}> %%c
mail_location = maildir:~/mail
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%%u %[1]s/users
}
userdb {
  driver = static
  args = uid=%[2]d gid=%[2]d home=%[1]s/home
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service submission-login {
  chroot =
}
`

const dovecotProxied = `protocols = submission
ssl = no
haproxy_trusted_networks = 127.0.0.1
submission_relay_host = %[2]s
submission_relay_port = %[3]s
service submission-login {
  inet_listener submission {
    port = 0
  }
  inet_listener submissions {
    port = 0
  }
  inet_listener proxied {
    address = 127.0.0.1
    port = %[1]d
    haproxy = yes
  }
}
`

// TestR48_DovecotReadsTheHeader: Dovecot's submission server learns address
// and port of the client and its server name, and offers AUTH because the
// header says that the client is under TLS. From a header that does not, it
// learns the address alone.
func TestR48_DovecotReadsTheHeader(t *testing.T) {
	need(t, "root", "ip", "dovecot", "submission-login")
	// A client with the listener's own address would be trusted without TLS.
	if !inNamespace(t, "198.51.100.1/32", "198.51.100.7/32", "2001:db8::1/128", "2001:db8::7/128") {
		return
	}
	relay := startRecorder(t, withoutHeader)
	password := newMarker()
	server := startDovecotSubmission(t, relay.address, password)
	certs := newCertificates(t)
	clients := map[string]string{"198.51.100.1": "198.51.100.7", "2001:db8::1": "2001:db8::7"}
	for listener, local := range clients {
		at := func(s setup) *proxy {
			s.certificates, s.backend = certs, server.address
			s.submissions = net.JoinHostPort(listener, strconv.Itoa(freePort(t)))
			s.submission = net.JoinHostPort(listener, strconv.Itoa(freePort(t)))
			return startProxy(t, s)
		}
		options := clientOptions{local: local, serverName: "b.example", trust: certs}
		for _, port := range at(setup{backendKeys: "preset: dovecot"}).ports() {
			c := open(t, port, options)
			requireAUTH(t, c, true)
			for _, secret := range []string{"wrong", password} {
				want := map[string]string{"wrong": "535 ", password: "235 "}[secret]
				if reply, err := saslPlain(c, secret); err != nil || !strings.HasPrefix(reply, want) {
					c.fatal(t, fmt.Errorf("the reply to AUTH is %q (%w), want %s", reply, err, want))
				}
			}
			marker := newMarker()
			c.mailTo(t, marker, "user@a.example")
			c.must(t, 354, "DATA")
			c.must(t, 250, "Subject: "+marker+"\r\n\r\ntext\r\n.")
			c.mustEnd(t, 221, "QUIT")
			relay.waitSession(t, marker)
			server.requireClient(t, c, port, "Login: user=<"+saslUser+">,", ", name=<b.example>, secured")
		}
		for also, without := range map[string]setup{
			"":                   {clientInfo: "proxy-v1"},
			", name=<b.example>": {backendKeys: "proxy_tlvs: [authority, unique_id, crc32c]"},
		} {
			for _, port := range at(without).ports() {
				c := open(t, port, options)
				requireAUTH(t, c, false)
				c.mustEnd(t, 221, "QUIT")
				server.requireClient(t, c, port, "user=<>,", also)
			}
		}
	}
}

// requireAUTH wants that Dovecot offers AUTH, or that it does not.
func requireAUTH(t *testing.T, c *client, want bool) {
	t.Helper()
	ehlo := c.must(t, 250, "EHLO client.test")
	if got := strings.Contains(ehlo, "AUTH PLAIN LOGIN"); got != want || !strings.Contains(ehlo, "dovecot.test") {
		t.Errorf("Dovecot offers AUTH: %v, want %v, in %q", got, want, ehlo)
	}
}

// requireClient wants the line of a session with the address of the client
// and of the listener that it came to, and behind them nothing but what is
// also told.
func (d *dovecotSubmission) requireClient(t *testing.T, c *client, to port, user, also string) {
	t.Helper()
	remote := c.raw.LocalAddr().(*net.TCPAddr)
	d.waitLog(t, user, fmt.Sprintf(" client=%s, port=%d, listener=%s, listenerport=%d%s\n",
		remote.IP, remote.Port, to.host(t), portOf(t, to.address), also))
}
