package test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// drained is a session that the shutdown meets in one of the states.
type drained struct {
	*client
	state  string
	then   string // what its client does from there on
	marker string
	left   string // of the message
	taken  bool   // the message got its 250
}

var (
	drainStates = []string{"plain", "idle", "MAIL", "DATA", "BDAT", "dot"}
	drainThen   = []string{"finish", "hang up", "say nothing"}
)

// TestR82_TermWithSessionsInAllStates: of 500 sessions each message that got
// 250 is delivered once, and no other one is, whether its client ends it,
// hangs up, or is silent until the time for the drain is over.
func TestR82_TermWithSessionsInAllStates(t *testing.T) {
	t.Parallel()
	const sessions = 500
	server := startPostfix(t, "default_process_limit = 600", // and the dot is waiting for its reply while the proxy is told to stop
		"smtpd_end_of_data_restrictions = check_sender_access inline:{ { slow@client.test = sleep 3 } }")
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.proxied, drain: "15s", mx: loopback(t),
		limits: manyHandshakes + ", connections_per_client: 1000"})
	var all []*drained
	ports := p.ports()
	for i := range sessions {
		d := &drained{state: drainStates[i%len(drainStates)], then: drainThen[i/len(drainStates)%len(drainThen)], marker: fmt.Sprintf("%s-%d.", newMarker(), i)}
		to := ports[i/len(drainStates)/len(drainThen)%len(ports)]
		if d.state == "plain" {
			d.client = plainClient(t, p)
		} else {
			d.client = open(t, to, clientOptions{serverName: "a.example", trust: certs})
		}
		d.begin(t)
		all = append(all, d)
	}
	for _, d := range all {
		if d.state == "dot" {
			d.mustSend(t, d.left)
		}
	}
	p.terminate(t)
	for _, then := range drainThen {
		for _, d := range all {
			if d.then == then {
				d.end(t)
			}
		}
	}
	p.requireExit(t, 0)
	eventually(t, "the queue is empty", func() bool { return len(server.queued(t)) == 0 })
	requireTaken(t, server.messages(t), all)
}

// begin brings the session to its state, but sends no dot.
func (d *drained) begin(t *testing.T) {
	t.Helper()
	if d.state == "plain" {
		return
	}
	d.must(t, 250, "EHLO client.test")
	if d.state == "idle" {
		return
	}
	sender := "sender"
	if d.state == "dot" {
		sender = "slow"
	}
	d.must(t, 250, "MAIL FROM:<"+sender+"@client.test>")
	text := "Subject: " + d.marker + "\r\n\r\n" + strings.Repeat("text\r\n", 1000)
	if d.state == "MAIL" {
		d.left = text + ".\r\n"
		return
	}
	d.must(t, 250, "RCPT TO:<user@a.example>")
	if d.state == "BDAT" {
		d.mustSend(t, "BDAT 3000\r\n"+text[:3000])
		if _, err := d.expect(250); err != nil {
			d.fatal(t, err)
		}
		d.mustSend(t, "BDAT 2000\r\n"+text[3000:4000])
		d.left = fmt.Sprintf("%sBDAT %d LAST\r\n%s", text[4000:5000], len(text)-5000, text[5000:])
		return
	}
	d.must(t, 354, "DATA")
	d.mustSend(t, text[:3000])
	d.left = text[3000:] + ".\r\n"
}

// end does what the client does after the shutdown has begun.
func (d *drained) end(t *testing.T) {
	t.Helper()
	message := d.state == "MAIL" || d.state == "DATA" || d.state == "BDAT"
	switch {
	case !message && d.state != "dot":
		requireDrained(t, d.client)
		return
	case message && d.then == "hang up":
		d.close()
		return
	case message && d.then == "say nothing":
		d.rest(t)
		return
	case d.state == "MAIL":
		d.must(t, 250, "RCPT TO:<user@a.example>")
		d.must(t, 354, "DATA")
	}
	if message {
		d.mustSend(t, d.left)
	}
	if d.state == "BDAT" {
		if _, err := d.expect(250); err != nil {
			d.fatal(t, err)
		}
	}
	if _, err := d.expect(250); err != nil {
		d.fatal(t, err)
	}
	d.taken = true
	requireDrained(t, d.client)
}

// requireTaken compares what was delivered with what got its 250.
func requireTaken(t *testing.T, messages [][]byte, all []*drained) {
	t.Helper()
	delivered, taken := map[string]int{}, 0
	for _, message := range messages {
		_, sent := splitTrace(message)
		subject, _, _ := bytes.Cut(sent, []byte("\n"))
		delivered[string(bytes.TrimPrefix(subject, []byte("Subject: ")))]++
	}
	for _, d := range all {
		want := 0
		if d.taken {
			want = 1
			taken++
		}
		if got := delivered[d.marker]; got != want {
			t.Errorf("state %s, then %s: delivered %d times, want %d", d.state, d.then, got, want)
		}
	}
	if len(messages) != taken || taken < len(all)/5 {
		t.Errorf("%d messages were delivered and %d taken, of %d sessions", len(messages), taken, len(all))
	}
}
