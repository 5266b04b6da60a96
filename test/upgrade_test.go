package test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestR82_UpgradeLosesNoClient: a new process starts beside the old one on the
// same addresses, which then ends.
func TestR82_UpgradeLosesNoClient(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	old := startProxy(t, setup{certificates: certs, backend: server.address})
	upgrade(t, old.ports(), certs, old, func() *proxy {
		next := old.setup
		next.dir, next.admin = "", ""
		return startProxy(t, next)
	})
}

// upgradeClients is how many clients come in all.
const upgradeClients = 1000

// upgrade has clients come all the time, four at once, while the next process
// takes the old one's place. None is refused or reset; those that meet the end
// of the old one may get a clean 421.
func upgrade(t *testing.T, ports []port, certs *certificates, old *proxy, start func() *proxy) {
	t.Helper()
	var begun, served, sentAway atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for n := begun.Add(1); n <= upgradeClients; n = begun.Add(1) {
				switch err := oneMessage(ports[n%int64(len(ports))], certs); {
				case err == nil:
					served.Add(1)
				case strings.Contains(err.Error(), `"421 4.3.2 `):
					sentAway.Add(1)
				default:
					t.Errorf("client %d: %v", n, err)
				}
			}
		})
	}
	eventually(t, "a fifth of the clients were served", func() bool { return served.Load() > upgradeClients/5 })
	next := start()
	eventually(t, "some more were", func() bool { return served.Load() > 2*upgradeClients/5 })
	old.terminate(t)
	old.requireExit(t, 0)
	clients.Wait()
	t.Logf("of %d clients %d were served and %d got 421", upgradeClients, served.Load(), sentAway.Load())
	if all := served.Load() + sentAway.Load(); all != upgradeClients || sentAway.Load() > 40 {
		t.Errorf("%d of %d clients were served, and %d got 421", served.Load(), upgradeClients, sentAway.Load())
	}
	if n := strings.Count(next.logged(), `"outcome":"ok"`); n < upgradeClients/5 {
		t.Errorf("the next process served %d clients", n)
	}
}

// oneMessage sends a message from the connection to QUIT.
func oneMessage(to port, certs *certificates) error {
	c, err := tryDial(to.address, "")
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.enter(to, clientOptions{serverName: defaultDomain, trust: certs}.config()); err != nil {
		return err
	}
	for _, step := range []struct {
		line string
		code int
	}{{"EHLO client.test", 250}, {"MAIL FROM:<s@x>", 250}, {"RCPT TO:<r@x>", 250}, {"DATA", 354}, {"Subject: x\r\n\r\ntext\r\n.", 250}, {"QUIT", 221}} {
		if _, err := c.exchange(step.line, step.code); err != nil {
			return fmt.Errorf("%s: %w", step.line, err)
		}
	}
	return nil
}
