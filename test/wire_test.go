package test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tap is a client's connection that keeps what comes in, and can send in
// small pieces.
type tap struct {
	net.Conn
	piece int           // bytes in a segment; 0 for as they come
	pause time.Duration // between the segments, to be slow

	mu   sync.Mutex
	read []byte
}

// tapped puts a tap under the TLS to come.
func (c *client) tapped(piece int, pause time.Duration) *tap {
	tap := &tap{Conn: c.raw, piece: piece, pause: pause}
	c.wire = tap
	return tap
}

func (w *tap) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = append(w.read, p[:n]...)
	return n, err
}

func (w *tap) Write(p []byte) (int, error) {
	if w.piece == 0 {
		return w.Conn.Write(p)
	}
	for sent := 0; sent < len(p); {
		n, err := w.Conn.Write(p[sent:min(sent+w.piece, len(p))])
		if sent += n; err != nil {
			return sent, err
		}
		time.Sleep(w.pause)
	}
	return len(p), nil
}

// records are the TLS records that came in.
func (w *tap) records(t testing.TB) []record {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	return splitRecords(t, w.read)
}

// record is a TLS record as it stands on the wire.
type record struct {
	kind    byte
	payload []byte
}

// The kinds of record (RFC 8446 section 5.1).
const (
	alertRecord     = 21
	handshakeRecord = 22
)

// splitRecords wants data to be TLS records and nothing else, whole ones but
// for the last.
func splitRecords(t testing.TB, data []byte) []record {
	t.Helper()
	var records []record
	for rest := data; len(rest) > 0; {
		if len(rest) < 5 || rest[0] < 20 || rest[0] > 23 || rest[1] != 3 {
			t.Fatalf("not a TLS record behind %d others: %q", len(records), rest[:min(len(rest), 100)])
		}
		end := min(len(rest), 5+int(rest[3])<<8+int(rest[4]))
		records = append(records, record{kind: rest[0], payload: rest[5:end]})
		rest = rest[end:]
	}
	return records
}

// clientHello is the first flight of crypto/tls for a configuration.
func clientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	var written written
	_ = tls.Client(&written, config).Handshake() // nobody answers
	if len(written.data) == 0 || written.data[0] != handshakeRecord {
		t.Fatalf("crypto/tls sent no ClientHello for %q", config.ServerName)
	}
	return written.data
}

// written is a connection to nobody.
type written struct {
	net.Conn
	data []byte
}

func (w *written) Read([]byte) (int, error) { return 0, io.EOF }
func (w *written) Close() error             { return nil }
func (w *written) Write(p []byte) (int, error) {
	w.data = append(w.data, p...)
	return len(p), nil
}

// helloFor is a ClientHello with that server name, also where crypto/tls would
// not send it so: the name is put in place of another of the same length.
func helloFor(t testing.TB, name string, protocols ...string) []byte {
	t.Helper()
	if len(name) > 10_000 { // over several records
		return clientHello(t, &tls.Config{ServerName: name, NextProtos: protocols})
	}
	stand := bytes.Repeat([]byte("q"), len(name))
	for range 100 { // a short one may stand in the random bytes, too
		hello := clientHello(t, &tls.Config{ServerName: string(stand), NextProtos: protocols})
		if bytes.Count(hello, stand) == 1 {
			return bytes.Replace(hello, stand, []byte(name), 1)
		}
	}
	t.Fatalf("no ClientHello holds a name of %d bytes once", len(name))
	return nil
}

// helloConfig trusts everybody, for handshakes whose ClientHello is what counts.
func helloConfig(name string, protocols ...string) *tls.Config {
	return &tls.Config{ServerName: name, NextProtos: protocols, InsecureSkipVerify: true}
}

// The alerts that the tests ask for (RFC 8446 section 6.2).
const (
	decodeError         = 50
	unrecognizedName    = 112
	noApplicationProtos = 120
)

// requireAlert sends a ClientHello and wants that fatal alert and the end, and
// nothing else.
func requireAlert(t testing.TB, to port, hello []byte, alert byte) {
	t.Helper()
	c := atHandshake(t, to, "")
	c.mustSend(t, string(hello))
	got := c.rest(t)
	if want := string([]byte{alertRecord, 3, 3, 0, 2, 2, alert}); got != want && got != string([]byte{alertRecord, 3, 1, 0, 2, 2, alert}) {
		t.Errorf("port %s: the answer is %x, want the alert %x", to.name, got, want)
	}
}

// unread is how many bytes wait in the socket of a client.
func (c *client) unread(t testing.TB) (n int) {
	t.Helper()
	raw, err := c.raw.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	if err != nil || failed != nil {
		t.Fatal(fmt.Errorf("asking the socket: %w, %w", err, failed))
	}
	return n
}
