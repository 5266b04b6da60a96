// Package freeport finds ports for tests whose servers can not pick their own.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

var ports struct {
	sync.Mutex
	next int
}

// Get finds a port that nothing listens on, each only once in a process, and
// below the range from which the kernel takes the ports of outgoing
// connections. Processes begin at different places.
func Get(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	if ports.next == 0 {
		ports.next = 12000 + rand.IntN(10000)
	}
	for range 5000 {
		ports.next++
		if IsFree("127.0.0.1", ports.next) && IsFree("::1", ports.next) {
			return ports.next
		}
	}
	t.Fatal("no free port")
	return 0
}

// Loopback is a free address on 127.0.0.1.
func Loopback(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", Get(t))
}

// IsFree tells whether nothing listens on a port.
func IsFree(host string, port int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return strings.Contains(err.Error(), "cannot assign") // a machine without IPv6
	}
	listener.Close()
	return true
}
