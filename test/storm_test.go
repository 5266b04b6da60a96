package test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestR42_ReloadStorm: 100 reloads in about ten seconds, every fifth of a broken
// file, under 200 sessions that are in progress or begin. None fails, and the
// last good configuration is in force at the end.
func TestR42_ReloadStorm(t *testing.T) {
	t.Parallel()
	const sessions, times = 200, 100
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, limits: manyHandshakes + ", connections_per_client: 1000"})
	ports := p.ports()
	var waiting []*client
	for n := range sessions / 2 { // in progress through all of it
		c := open(t, ports[n%len(ports)], clientOptions{serverName: defaultDomain, trust: certs})
		c.must(t, 250, "EHLO client.test")
		c.must(t, 250, "MAIL FROM:<s@x>")
		waiting = append(waiting, c)
	}
	stop := make(chan struct{})
	var begin sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); begin.Wait() })
	defer end() // also where the test gives up
	var done atomic.Int64
	for n := range sessions / 2 { // one after the other
		begin.Go(func() {
			for ; ; n++ {
				if err := oneMessage(ports[n%len(ports)], certs); err != nil {
					t.Errorf("a session that began in the storm: %v", err)
				}
				done.Add(1)
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Millisecond): // the machine has other tests to run
				}
			}
		})
	}
	name := func(n int) string { return fmt.Sprintf("n%d.a.example", n) }
	good := 0
	for n, tick := 1, time.Tick(100*time.Millisecond); n <= times; n++ {
		<-tick
		text, counter := strings.ReplaceAll(p.yaml(), "mail.a.example", name(n)), reloads+" "
		if n%5 == 0 {
			text += "nonsense: ["
			counter = `smtp_tlsproxy_config_reloads_total{result="error"} `
		} else {
			good = n
		}
		// The signal and the changed file may each make a reload, where the
		// machine has much to do.
		before := p.metric(t, counter)
		p.rewrite(t, text)
		eventually(t, "the file is read", func() bool { return p.metric(t, counter) != before })
	}
	end()
	if done.Load() < sessions {
		t.Errorf("only %d sessions began in the storm", done.Load())
	}
	for n, c := range waiting {
		c.must(t, 250, "RCPT TO:<r@x>")
		c.must(t, 354, "DATA")
		c.must(t, 250, fmt.Sprintf("Subject: %d\r\n\r\ntext\r\n.", n))
		c.mustEnd(t, 221, "QUIT")
	}
	eventually(t, "/status.json tells of the broken file", func() bool {
		_, status := get("http://" + p.admin + "/status.json")
		return strings.Contains(status, "not valid YAML")
	})
	p.waitMetric(t, configSuccessful, "0")
	c := dial(t, p.submission, "")
	if greeting, err := c.expect(220); err != nil || !strings.HasPrefix(greeting, "220 "+name(good)+" ") {
		t.Errorf("the greeting is %q, %v; want the name %s", greeting, err, name(good))
	}
	t.Logf("%d sessions began in the storm", done.Load())
}
