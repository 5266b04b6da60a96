package demo_test

import (
	"errors"
	"io"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
	"go.uber.org/goleak"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/demo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// screen is where a backend under test prints. Each Write is one element.
type screen struct {
	mu     sync.Mutex
	writes []string
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = append(s.writes, string(p))
	return len(p), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.writes, "")
}

// start runs a backend until the test ends.
func start(t *testing.T) (address string, printed *screen) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	printed = new(screen)
	backend := demo.NewBackend(printed)
	done := make(chan error, 1)
	go func() { done <- backend.Serve(l) }()
	t.Cleanup(func() {
		if err := backend.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := <-done; !errors.Is(err, demo.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return l.Addr().String(), printed
}

// header is what the proxy sends for a client; without tlvs, a client in plain
// text.
func header(t *testing.T, tlvs ...proxyproto.TLV) []byte {
	t.Helper()
	h := proxyproto.HeaderProxyFromAddrs(2,
		&net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 41234},
		&net.TCPAddr{IP: net.ParseIP("198.51.100.1"), Port: 465})
	if err := h.SetTLVs(tlvs); err != nil {
		t.Fatal(err)
	}
	raw, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func overTLS(t *testing.T) []proxyproto.TLV {
	t.Helper()
	ssl, err := tlvparse.PP2SSL{
		Client: tlvparse.PP2_BITFIELD_CLIENT_SSL, Verify: 1,
		TLV: []proxyproto.TLV{
			{Type: proxyproto.PP2_SUBTYPE_SSL_VERSION, Value: []byte("TLSv1.3")},
			{Type: proxyproto.PP2_SUBTYPE_SSL_CIPHER, Value: []byte("TLS_AES_128_GCM_SHA256")},
		},
	}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return []proxyproto.TLV{
		ssl,
		{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("a.localhost")},
		{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: []byte("8f3c17a0")},
	}
}

// dialog is a raw SMTP client behind a header.
type dialog struct {
	t    testing.TB
	text *textproto.Conn
}

func dial(t *testing.T, address string, header []byte) *dialog {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	d := &dialog{t, textproto.NewConn(conn)}
	t.Cleanup(func() { _ = d.text.Close() })
	if _, err := conn.Write(header); err != nil {
		t.Fatal(err)
	}
	d.reply(220)
	return d
}

func (d *dialog) reply(code int) (text string) {
	d.t.Helper()
	_, text, err := d.text.ReadResponse(code)
	if err != nil {
		d.t.Fatalf("want %d: %v", code, err)
	}
	return text
}

func (d *dialog) say(code int, command string) (text string) {
	d.t.Helper()
	if err := d.text.PrintfLine("%s", command); err != nil {
		d.t.Fatal(err)
	}
	return d.reply(code)
}

// send sends a message; its text is taken as it is.
func (d *dialog) send(from, to, text string) {
	d.t.Helper()
	d.say(250, "MAIL FROM:<"+from+">")
	d.say(250, "RCPT TO:<"+to+">")
	d.say(354, "DATA")
	if _, err := io.WriteString(d.text.W, text); err != nil {
		d.t.Fatal(err)
	}
	d.say(250, ".")
}
