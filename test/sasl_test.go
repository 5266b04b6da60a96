package test

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const saslUser = "alice@a.example"

// startDovecot starts Dovecot for nothing but SASL, on a socket in the queue of
// Postfix. It knows one user.
func startDovecot(t testing.TB, server *postfix, password string) {
	t.Helper()
	need(t, "root", "dovecot")
	program, err := lookPath("dovecot")
	if err != nil {
		t.Fatal(err)
	}
	dir := sharedDir(t)
	socket := filepath.Join(server.queue, "private", "auth")
	file := filepath.Join(dir, "dovecot.conf")
	writeFile(t, file, fmt.Sprintf(dovecotConfiguration, dir, socket))
	writeFile(t, filepath.Join(dir, "users"), saslUser+":{PLAIN}"+password+"\n")
	// -F: in the foreground.
	p := startProcess(t, "Dovecot", filepath.Join(dir, "dovecot.log"), exec.Command(program, "-F", "-c", file))
	eventually(t, "Dovecot has its socket", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("Dovecot ended at start: %v\n%s", p.err, p.logged())
		default:
		}
		_, err := os.Stat(socket)
		return err == nil
	})
}

// Without anvil-auth-penalty a wrong password delays no later one.
const dovecotConfiguration = `base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = /dev/stderr
protocols =
ssl = no
auth_mechanisms = plain login cram-md5 scram-sha-256
auth_failure_delay = 0
disable_plaintext_auth = no
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%%u %[1]s/users
}
userdb {
  driver = static
  args = uid=5000 gid=5000 home=/nonexistent
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service auth {
  unix_listener %[2]s {
    mode = 0600
    user = postfix
  }
}
`

// TestR6_R65_SASL: every mechanism of Dovecot's works through the proxy, for
// whoever has the password, under TLS, and for nobody else. The log does not
// tell the password.
func TestR6_R65_SASL(t *testing.T) {
	t.Parallel()
	need(t, "dovecot")
	password := "secret-" + newMarker()
	server := startPostfix(t, "smtpd_sasl_auth_enable = yes", "smtpd_sasl_type = dovecot", "smtpd_sasl_path = private/auth",
		"smtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination")
	startDovecot(t, server, password)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied, mx: loopback(t), logLevel: "debug"})
	for _, port := range p.ports()[:2] {
		for name, mechanism := range saslMechanisms {
			t.Run(port.name+"/"+name, func(t *testing.T) {
				requireSASL(t, p, port, name, mechanism, password, server)
			})
		}
	}
	requireNoSASL(t, p)
	for _, secret := range []string{password, base64Of(password), base64Of("\x00" + saslUser + "\x00" + password)} {
		if line := lineWith(p.logged(), secret); line != "" {
			t.Errorf("the log tells the password: %s", line)
		}
	}
}

// requireSASL has a relay refused without AUTH and with a wrong password, and
// done with the right one.
func requireSASL(t *testing.T, p *proxy, to port, name string, mechanism saslMechanism, password string, server *postfix) {
	c := open(t, to, clientOptions{local: clientAddress, serverName: "a.example", trust: p.certificates})
	ehlo := c.must(t, 250, "EHLO client.test")
	line := lineWith(ehlo, "250-AUTH ")
	for offered := range saslMechanisms {
		if !strings.Contains(strings.TrimSpace(line)+" ", " "+offered+" ") {
			t.Errorf("%s is not offered: %q", offered, ehlo)
		}
	}
	foreign := newMarker() + "@elsewhere.test"
	refused := func() {
		t.Helper()
		c.must(t, 250, "MAIL FROM:<sender@client.test>")
		c.must(t, 554, "RCPT TO:<"+foreign+">")
		c.must(t, 250, "RSET")
	}
	refused()
	if reply, err := mechanism(c, "wrong-"+password); err != nil || !strings.HasPrefix(reply, "535 5.7.8 ") {
		c.fatal(t, fmt.Errorf("the reply to a wrong password is %q, %w", reply, err))
	}
	refused()
	if reply, err := mechanism(c, password); err != nil || !strings.HasPrefix(reply, "235 2.7.0 ") {
		c.fatal(t, fmt.Errorf("the reply to the password is %q, %w", reply, err))
	}
	c.must(t, 250, "MAIL FROM:<sender@client.test>")
	c.must(t, 250, "RCPT TO:<"+foreign+">")
	c.must(t, 354, "DATA")
	c.must(t, 250, "Subject: x\r\n\r\ntext\r\n.")
	c.mustEnd(t, 221, "QUIT")
	server.waitLog(t, "client=unknown["+clientAddress+"]", "sasl_method="+name+", sasl_username="+saslUser)
	server.waitLog(t, "to=<"+foreign+">", "status=sent")
}

// requireNoSASL wants AUTH neither offered nor taken before TLS.
func requireNoSASL(t *testing.T, p *proxy) {
	t.Helper()
	for _, address := range []string{p.submission, p.mx} {
		c := dial(t, address, clientAddress)
		c.mustGreet(t)
		for range 2 { // on port 25 the second reply is Postfix's own
			if ehlo := c.must(t, 250, "EHLO client.test"); strings.Contains(ehlo, "AUTH") || !strings.Contains(ehlo, "STARTTLS") {
				t.Errorf("before TLS the client sees %q", ehlo)
			}
			c.must(t, 530, "AUTH PLAIN")
			if address == p.mx {
				c.must(t, 250, "MAIL FROM:<sender@client.test>")
				c.must(t, 250, "RSET")
			}
		}
		c.mustEnd(t, 221, "QUIT")
	}
}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
