package test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	bulkPerServer  = 500
	bulkPerSession = 20
	bulkSessions   = 4 // at the same time, to each server
)

// bulkServer is a server that takes each message twice.
type bulkServer struct {
	name    string
	box     maildir
	spool   []string // where its messages wait
	proxied string
	direct  string
	local   string // the source address for which direct wants no PROXY header
}

// TestR65_R66_Bulk: a thousand messages through the proxy, of all sizes, on all
// ports, many to a session, in pipelined groups, in DATA and in chunks. Each
// gets the reply that it gets directly, arrives once, and is byte for byte
// what a direct delivery of the same bytes gives.
func TestR65_R66_Bulk(t *testing.T) {
	t.Parallel()
	mx, other := startPostfix(t), startExim(t)
	certs := newCertificates(t)
	servers := []bulkServer{
		{"Postfix", mx.maildir, []string{filepath.Join(mx.queue, "incoming"), filepath.Join(mx.queue, "active"), filepath.Join(mx.queue, "deferred")},
			mx.proxied, mx.direct, ""},
		{"Exim", other.maildir, []string{filepath.Join(filepath.Dir(filepath.Dir(string(other.maildir))), "spool", "input")},
			other.proxied, other.proxied, clientAddress},
	}
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, setup{certificates: certs, backend: server.proxied, mx: loopback(t)})
			replies := map[string][]string{"proxied": make([]string, bulkPerServer), "direct": make([]string, bulkPerServer)}
			server.sendAll(t, p, replies)
			if t.Failed() {
				return
			}
			taken := 0
			for i, reply := range replies["proxied"] {
				if direct := replies["direct"][i]; reply[:3] != direct[:3] {
					t.Errorf("message %d: the reply is %q, directly %q", i, reply, direct)
				}
				if reply[:3] == "250" {
					taken++
				}
			}
			if taken != bulkPerServer {
				t.Errorf("%d of %d messages were taken", taken, bulkPerServer)
			}
			server.requireSame(t, replies)
		})
	}
}

// sendAll sends every message directly and through the proxy's ports in turn.
// What the server said to the end of each comes into replies.
func (s bulkServer) sendAll(t *testing.T, p *proxy, replies map[string][]string) {
	t.Helper()
	type job struct {
		way   string
		first int
	}
	jobs := make(chan job, 2*bulkPerServer/bulkPerSession)
	for first := 0; first < bulkPerServer; first += bulkPerSession {
		jobs <- job{"proxied", first}
		jobs <- job{"direct", first}
	}
	close(jobs)
	var workers sync.WaitGroup
	for range bulkSessions {
		workers.Go(func() {
			for j := range jobs {
				to, local := port{name: plainPort, address: s.direct}, s.local
				if j.way == "proxied" {
					ports := p.ports()
					to, local = ports[j.first/bulkPerSession%len(ports)], clientAddress
				}
				got := replies[j.way][j.first : j.first+bulkPerSession]
				if err := bulkSession(to, local, p.certificates, j.way, j.first, got); err != nil {
					t.Errorf("%s to %s, port %s, messages from %d: %v", j.way, s.name, to.name, j.first, err)
				}
			}
		})
	}
	workers.Wait()
}

// bulkSession sends len(replies) messages in one session. Each write is a whole
// group: the end of one message, and the envelope and more of the next.
func bulkSession(to port, local string, certs *certificates, way string, first int, replies []string) error {
	c, err := tryDial(to.address, local)
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.enter(to, clientOptions{serverName: "a.example", trust: certs}.config()); err != nil {
		return err
	}
	if to.name == plainPort { // for the EHLO to be the backend's
		if err := c.send([]byte("VRFY x\r\n")); err != nil {
			return err
		}
		c.anyReply()
	}
	ehlo, err := c.exchange("EHLO client.test", 250)
	if err != nil {
		return err
	}
	for _, word := range []string{"PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8"} {
		if !strings.Contains(ehlo, word) {
			return fmt.Errorf("%s is not offered: %q", word, ehlo)
		}
	}
	var group []byte
	var pending *string // the reply to the message before, where it is in the next group
	for i := range replies {
		m := newBulkMessage(first + i)
		group = append(group, m.envelope(way)...)
		if m.chunks > 0 {
			group = append(group, m.bdat()...)
		} else {
			group = append(group, "DATA\r\n"...)
		}
		if err := c.send(group); err != nil {
			return err
		}
		group = group[:0]
		codes := []int{250, 250}
		if m.chunks == 0 {
			codes = append(codes, 354)
		}
		if pending != nil {
			*pending = c.anyReply()
		}
		for _, code := range codes {
			if _, err := c.expect(code); err != nil {
				return fmt.Errorf("message %d: %w", first+i, err)
			}
		}
		if m.chunks == 0 {
			group, pending = append(group, m.stuffed()...), &replies[i]
			continue
		}
		pending = nil
		for range m.chunks {
			replies[i] = c.anyReply()
		}
	}
	if err := c.send(append(group, "QUIT\r\n"...)); err != nil {
		return err
	}
	if pending != nil {
		*pending = c.anyReply()
	}
	_, err = c.expect(221)
	return err
}

// anyReply reads a reply of whatever code.
func (c *client) anyReply() string {
	var reply strings.Builder
	for {
		line, err := c.reader.ReadString('\n')
		if err != nil || len(line) < 4 {
			return fmt.Sprintf("no reply: %q, %v", reply.String()+line, err)
		}
		reply.WriteString(line)
		if line[3] != '-' {
			return reply.String()
		}
	}
}

// requireSame waits for all that was taken, and compares the two of each.
func (s bulkServer) requireSame(t *testing.T, replies map[string][]string) {
	t.Helper()
	want := map[string]int{}
	for way, all := range replies {
		for i, reply := range all {
			if reply[:3] == "250" {
				want[bulkKey(way, i)] = 1
			}
		}
	}
	eventually(t, "every message has left the queue", func() bool {
		entries, err := os.ReadDir(filepath.Join(string(s.box), "new"))
		return err == nil && len(entries) >= len(want) && !anyFile(s.spool)
	})
	contents, got := map[string][]byte{}, map[string]int{}
	for _, message := range s.box.messages(t) {
		trace, sent := splitTrace(message)
		way := "proxied"
		if bytes.Contains(trace, []byte("direct@a.example")) {
			way = "direct"
		}
		var number int
		if _, err := fmt.Sscanf(string(sent[:min(len(sent), 40)]), "X-Bulk: %d\n", &number); err != nil {
			t.Errorf("no message of ours: %.300q", message)
			continue
		}
		contents[bulkKey(way, number)] = sent
		got[bulkKey(way, number)]++
	}
	for i := range bulkPerServer {
		for way := range replies {
			if key := bulkKey(way, i); got[key] != want[key] {
				t.Errorf("%s: delivered %d times, want %d", key, got[key], want[key])
			}
		}
		proxied, direct := contents[bulkKey("proxied", i)], contents[bulkKey("direct", i)]
		if !bytes.Equal(proxied, direct) {
			at := differsAt(proxied, direct)
			t.Errorf("message %d differs from the direct one at byte %d of %d and %d:\ngot  %.80q\nwant %.80q",
				i, at, len(proxied), len(direct), proxied[at:], direct[at:])
		}
	}
}

func bulkKey(way string, i int) string { return fmt.Sprintf("%s %d", way, i) }

// anyFile tells whether there is a file below the folders.
func anyFile(folders []string) bool {
	some := false
	for _, folder := range folders {
		filepath.WalkDir(folder, func(_ string, entry os.DirEntry, err error) error { // a file may leave while we look
			some = some || err == nil && !entry.IsDir()
			return nil
		})
	}
	return some
}
