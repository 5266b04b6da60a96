package proxy_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// faulty panics in the nth call of Read or Write.
type faulty struct {
	*memoryConn
	reads, writes   atomic.Int32
	inRead, inWrite int32
}

func (f *faulty) Read(p []byte) (int, error) {
	if f.reads.Add(1) == f.inRead {
		panic("a bug in a read")
	}
	return f.memoryConn.Read(p)
}

func (f *faulty) Write(p []byte) (int, error) {
	if f.writes.Add(1) == f.inWrite {
		panic("a bug in a write")
	}
	return f.memoryConn.Write(p)
}

// panics are where one may happen.
var panics = []struct {
	name            string
	dial            bool // it panics already
	inRead, inWrite int32
}{
	{"session", true, 0, 0},
	{"greeting", false, 1, 0},
	{"replies", false, 2, 0}, // in the relay, the first one is for the greeting
	{"commands", false, 0, 2},
}

// TestR83_Panic: a panic ends its own session alone, whatever goroutine it is in,
// and is counted. The session gives back all that it had.
func TestR83_Panic(t *testing.T) {
	bothModes(t, func(t *testing.T, mode proxy.Mode) {
		for _, test := range panics {
			t.Run(test.name, func(t *testing.T) {
				inBubble(t, mode, nil, mailServer, func(b *bubble) {
					other := b.relayed()
					c := b.connectVia(func(ctx context.Context) (net.Conn, error) {
						if test.dial {
							panic("a bug in a dial")
						}
						conn, err := b.backend.dial(ctx)
						return &faulty{memoryConn: conn.(*memoryConn), inRead: test.inRead, inWrite: test.inWrite}, err
					})
					c.secure(b.mode)
					c.send("NOOP")
					c.conn.Read(make([]byte, 4096)) // what greeting there is
					line := b.session("panic")
					if line["level"] != "ERROR" {
						b.t.Errorf("line %v", line)
					}
					contains(b.t, b.log.text(), "panic in a session", "a bug in a ", line["id"].(string), "goroutine")
					b.counts(1, "panics_total")
					b.counts(1, "sessions_total", "outcome", "panic")
					c.conn.Close()
					synctest.Wait()
					b.counts(1, "connections_open")
					if n := b.Slots(); n != 1 {
						b.t.Errorf("%d slots are taken beside that of the other client", n-1)
					}
					other.do("QUIT", "221 ")
					other.end()
				})
			})
		}
	})
}
