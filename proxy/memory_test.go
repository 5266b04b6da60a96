package proxy_test

import (
	"crypto/tls"
	"runtime"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
)

// TestRelayAllocatesNothingPerByte sends 16 MB through. The race detector
// takes buffers out of pools at random, hence the generous bound.
func TestRelayAllocatesNothingPerByte(t *testing.T) {
	const size, bound = 16 << 20, 6 << 20
	address := quietServer(t, proxy.ModeImplicitTLS, 64<<10)
	c := dialClient(t, address)
	c.secure(proxy.ModeImplicitTLS)
	c.expect("220 ")
	chunk := []byte(strings.Repeat("x", 32<<10-2) + "\r\n")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.do("DATA", "354 ")
	for sent := 0; sent < size; sent += len(chunk) {
		if _, err := c.conn.(*tls.Conn).Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	c.do(".", "250 queued")
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > bound {
		t.Errorf("%d bytes were allocated for a message of %d", got, size)
	}
}

// TestIdleSessionMemory: what an idle session holds, the client's and the
// backend's ends included, which are in this process too (R81).
func TestIdleSessionMemory(t *testing.T) {
	const sessions, bound = 100, 64 << 10
	address := quietServer(t, proxy.ModeImplicitTLS, 1<<10)
	var before, after runtime.MemStats
	connect := func() {
		c := dialClient(t, address)
		c.secure(proxy.ModeImplicitTLS)
		c.expect("220 ")
	}
	connect() // what is allocated once
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range sessions {
		connect()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	held := int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse)
	t.Logf("%d bytes a session", held/sessions)
	if held/sessions > bound {
		t.Errorf("an idle session holds %d bytes", held/sessions)
	}
}
