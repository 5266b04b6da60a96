package proxy_test

import (
	"context"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// peer is a connection that the backend got, behind its PROXY header.
type peer struct {
	*talk
	headed chan struct{}      // closed when the header was read, or can not be
	header *proxyproto.Header // there then
}

// fakeBackend gives each connection to a script, which returns to close it.
type fakeBackend struct {
	t       testing.TB
	address string
	script  func(*peer)
	bare    atomic.Bool // no PROXY header comes

	listener net.Listener // nil in memory
	running  sync.WaitGroup
	mu       sync.Mutex
	peers    []*peer
	stopped  bool
}

// newBackend serves on loopback until the test ends.
func newBackend(t testing.TB, script func(*peer)) *fakeBackend {
	t.Helper()
	b := &fakeBackend{t: t, script: script, address: "127.0.0.1:0"}
	b.listen()
	t.Cleanup(b.kill)
	return b
}

// listen begins to serve, at the start or after kill.
func (b *fakeBackend) listen() {
	b.t.Helper()
	l, err := net.Listen("tcp", b.address)
	must(b.t, err)
	b.listener, b.address = l, l.Addr().String()
	b.mu.Lock()
	b.stopped = false // it was killed, and is back
	b.mu.Unlock()
	b.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b.begin(conn)
		}
	})
}

// kill ends it with all of its connections.
func (b *fakeBackend) kill() {
	b.listener.Close()
	b.stop()
}

// stop closes what is open, waits for the scripts, and reports their faults.
func (b *fakeBackend) stop() {
	b.mu.Lock()
	b.stopped = true
	for _, p := range b.peers {
		p.conn.Close()
	}
	b.mu.Unlock()
	b.running.Wait()
	if b.t.Failed() {
		for _, p := range b.peers {
			b.t.Logf("backend:\n%s", p.transcript())
		}
	}
}

func (b *fakeBackend) begin(conn net.Conn) {
	p := &peer{talk: newTalk(conn), headed: make(chan struct{})}
	p.fail = func(format string, args ...any) {
		p.note("fault", format)
		runtime.Goexit()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped { // a session that the test left behind
		conn.Close()
		return
	}
	b.peers = append(b.peers, p)
	b.running.Go(func() {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(p.patience))
		if b.bare.Load() {
			close(p.headed)
			b.script(p)
		} else if p.readHeader() {
			b.script(p)
		}
	})
}

func (p *peer) readHeader() bool {
	defer close(p.headed)
	header, err := proxyproto.Read(p.r)
	if err != nil {
		p.note("recv", "PROXY header: "+err.Error())
		return false
	}
	p.header = header
	p.note("recv", "PROXY header")
	return true
}

// dial connects in memory.
func (b *fakeBackend) dial(context.Context) (net.Conn, error) {
	ours, theirs := memoryPipe(25, memoryBuffer)
	b.begin(theirs)
	return ours, nil
}

// connections tells how many there were.
func (b *fakeBackend) connections() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.peers)
}

// only is the one connection there was.
func (b *fakeBackend) only() *peer {
	b.t.Helper()
	b.mu.Lock()
	peers := b.peers
	b.mu.Unlock()
	if len(peers) != 1 {
		b.t.Fatalf("the backend got %d connections, want 1", len(peers))
	}
	<-peers[0].headed
	return peers[0]
}

// mailServer is a script: an SMTP server that takes every message.
func mailServer(p *peer) {
	p.send("220 backend.example ESMTP")
	for p.command() {
	}
}

// command answers one command. It reports false when the session is over.
func (p *peer) command() bool {
	line := p.line()
	verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch strings.ToUpper(verb) {
	case "":
		return false
	case "EHLO":
		p.send("250-backend.example", "250-PIPELINING", "250-STARTTLS", "250-AUTH PLAIN SCRAM-SHA-256-PLUS", "250 XCLIENT ADDR")
	case "DATA":
		p.send("354 go ahead")
		for {
			line := p.line()
			if line == "" {
				return false
			}
			if line == ".\r\n" {
				break
			}
		}
		p.send("250 2.0.0 queued")
	case "AUTH":
		p.send("235 2.7.0 ok")
	case "QUIT":
		p.send("221 2.0.0 bye")
		return false
	default:
		p.send("250 2.0.0 ok " + verb)
	}
	return true
}

// tlv is the value of a TLV in the header, "" for none.
func (p *peer) tlv(kind proxyproto.PP2Type) string {
	tlvs, err := p.header.TLVs()
	if err != nil {
		p.fatalf("TLVs: %v", err)
	}
	for _, tlv := range tlvs {
		if tlv.Type == kind {
			return string(tlv.Value)
		}
	}
	return ""
}
