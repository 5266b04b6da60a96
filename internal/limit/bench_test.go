package limit_test

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/limit"
)

var limits = limit.Limits{Connections: 20000, ConnectionsPerClient: 200, HandshakesPerSecond: 1 << 30, ConcurrentHandshakes: 256}

// BenchmarkSlot is what the limits cost a connection, of one of 4096 clients.
func BenchmarkSlot(b *testing.B) {
	l := limit.New(limits)
	var worker atomic.Uint32
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		id := byte(worker.Add(1))
		for i := 0; pb.Next(); i++ {
			slot, err := l.Open()
			if err != nil {
				b.Fatal(err)
			}
			if err := slot.Admit(netip.AddrFrom4([4]byte{10, id, byte(i >> 8 & 15), byte(i)})); err != nil {
				b.Fatal(err)
			}
			slot.Release()
		}
	})
}

// BenchmarkRefusal is what a flood costs.
func BenchmarkRefusal(b *testing.B) {
	l := limit.New(limit.Limits{Connections: 1})
	if _, err := l.Open(); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := l.Open(); err == nil {
				b.Fatal("a slot too many")
			}
		}
	})
}

// BenchmarkTurn is what the bound costs each piece of a handshake's work.
func BenchmarkTurn(b *testing.B) {
	l := limit.New(limits)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		turn := l.Turn()
		for pb.Next() {
			if turn.Try() {
				turn.Yield()
			}
		}
	})
}

func TestSlotsDoNotAllocate(t *testing.T) {
	l := limit.New(limits)
	client := netip.MustParseAddr("192.0.2.1")
	turn := l.Turn()
	if n := testing.AllocsPerRun(1000, func() {
		slot, _ := l.Open()
		_ = slot.Admit(client)
		turn.Try()
		turn.Yield()
		slot.Release()
	}); n != 0 {
		t.Errorf("%v allocations a connection, want 0", n)
	}
}
