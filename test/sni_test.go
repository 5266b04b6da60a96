package test

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// opens tells which files of some folders anybody opens or reads. The kernel
// notes an event before the call that caused it returns.
type opens struct {
	fd   int
	dirs map[int32]string
}

func watchOpens(t *testing.T, dirs ...string) *opens {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	o := &opens{fd: fd, dirs: make(map[int32]string)}
	for _, dir := range dirs {
		wd, err := unix.InotifyAddWatch(fd, dir, unix.IN_OPEN|unix.IN_ACCESS)
		if err != nil {
			t.Fatalf("watching %s: %v", dir, err)
		}
		o.dirs[int32(wd)] = dir
	}
	return o
}

// take returns what was opened since the last call.
func (o *opens) take(t *testing.T) []string {
	t.Helper()
	var paths []string
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.Read(o.fd, buffer)
		if err == unix.EAGAIN {
			return paths
		}
		if err != nil {
			t.Fatal(err)
		}
		for rest := buffer[:n]; len(rest) > 0; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&rest[0]))
			end := unix.SizeofInotifyEvent + int(event.Len)
			name := strings.TrimRight(string(rest[unix.SizeofInotifyEvent:end]), "\x00")
			paths = append(paths, filepath.Join(o.dirs[event.Wd], name))
			rest = rest[end:]
		}
	}
}

// hostileNames are server names that no folder has, though some would lead to
// one if they were taken for paths.
func hostileNames(certs *certificates) []string {
	names := []string{
		"unknown.example", "x.unknown.example", "../canary", "../certs/b.example", "./b.example", "b.example/", "b.example/cert.pem",
		"b.example/../b.example", "/etc/passwd", filepath.Join(certs.dir, "b.example"), filepath.Join(filepath.Dir(certs.dir), "canary"),
		"b.example\x00", "b.example\x00.unknown.test", "\x00", "b.example\\", "..\\canary", "%2e%2e/canary", "%2e%2e%2fcanary", "b%2eexample",
		"..data", "..data/b.example", "*", "*.w.example", "x.y.w.example", ".w.example", "w.example", "~", "$HOME", "`id`",
		"b.example\n", "b.example ", " b.example", "b.exampl\u00e9", "\xff\xfe", "b_example", "b.example:465", "[::1]", "http://b.example",
		"-b.example", "b-.example", strings.Repeat("n", 64) + ".example", strings.Repeat("n.", 126) + "nn", strings.Repeat("a", 5000),
	}
	for i := range 30 {
		names = append(names, fmt.Sprintf("random%d.%s.example", i, newMarker()))
	}
	return names
}

// TestR22_UnknownNameOpensNoFile: no path is ever made from a server name.
func TestR22_UnknownNameOpensNoFile(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	canary := filepath.Join(filepath.Dir(certs.dir), "canary") // what a path with .. would find
	if err := certs.ca.WriteFolder(filepath.Dir(certs.dir), "canary", devcert.Leaf{Names: []string{"canary.example"}}); err != nil {
		t.Fatal(err)
	}
	// What was written just before it is read is read once more when the look of
	// the files is compared, which a slow run of this test lives to see.
	time.Sleep(2500 * time.Millisecond)
	p := startProxy(t, setup{certificates: certs, backend: server.address, rescan: "1h"})
	watched := []string{certs.dir, canary, filepath.Join(certs.dir, "*.w.example")}
	for _, name := range domains {
		watched = append(watched, filepath.Join(certs.dir, name))
	}
	for _, name := range append([]string{"*.w.example"}, domains...) { // every folder is read once, for its dates
		p.waitMetricSet(t, `smtp_tlsproxy_certificate_not_after_timestamp_seconds{domain="`+name+`"`)
	}
	files := watchOpens(t, watched...)
	shake := func(to port, name string) {
		t.Helper()
		c := atHandshake(t, to, "")
		config := clientOptions{serverName: name, trust: certs}.config()
		config.InsecureSkipVerify = true
		if err := c.startTLS(config); err != nil {
			t.Fatalf("port %s: server name %q: %v", to.name, name, err)
		}
		if leaf := c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0]; leaf.Subject.CommonName != defaultDomain {
			t.Errorf("port %s: server name %q gets the certificate of %s, want the default", to.name, name, leaf.Subject.CommonName)
		}
		c.must(t, map[string]int{"465": 220, "587": 250}[to.name], "NOOP")
	}
	for _, port := range p.ports() {
		for _, name := range hostileNames(certs) {
			shake(port, name)
			if opened := files.take(t); len(opened) > 0 {
				t.Fatalf("port %s: server name %q had these opened: %q", port.name, name, opened)
			}
		}
		shake(port, "A.Example") // known, and read at the start
		if opened := files.take(t); len(opened) > 0 {
			t.Fatalf("port %s: a known name had these opened again: %q", port.name, opened)
		}
	}
	// The check can fail: a known folder is read when it is first asked for.
	c := atHandshake(t, p.ports()[0], "")
	if err := c.startTLS(clientOptions{serverName: "b.example", trust: certs}.config()); err != nil {
		t.Fatal(err)
	}
	if opened := files.take(t); len(opened) == 0 {
		t.Error("b.example was served and no file of it opened; the watch does not work")
	}
}

// TestR23_NamesAreNormalised: case does not matter, and the address of a
// server in place of its name is common and no error.
func TestR23_NamesAreNormalised(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	for _, port := range p.ports() {
		for name, folder := range map[string]string{
			"b.example": "b.example", "B.EXAMPLE": "b.example", "b.eXample": "b.example", "X.W.EXAMPLE": "*.w.example",
			"under_score.w.example": "*.w.example", "xn--mnchen-3ya.w.example": "*.w.example",
			"192.0.2.1": defaultDomain, "127.0.0.1": defaultDomain, "::1": defaultDomain, "[::1]": defaultDomain, "2001:db8::1": defaultDomain,
			"": defaultDomain, "other.test": defaultDomain,
		} {
			c := atHandshake(t, port, "")
			if err := c.startTLS(&tls.Config{ServerName: name, InsecureSkipVerify: true}); err != nil {
				t.Errorf("port %s: server name %q: %v", port.name, name, err)
				continue
			}
			if leaf := c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0]; leaf.Subject.CommonName != folder {
				t.Errorf("port %s: server name %q gets %s, want %s", port.name, name, leaf.Subject.CommonName, folder)
			}
			c.close()
		}
		// crypto/tls leaves addresses out of its ClientHello; others do not.
		for _, name := range []string{"192.0.2.1", "2001:db8::1"} {
			c := atHandshake(t, port, "")
			c.mustSend(t, string(helloFor(t, name)))
			if first, err := c.reader.ReadByte(); err != nil || first != handshakeRecord {
				t.Errorf("port %s: the answer to the server name %s begins with %d, %v", port.name, name, first, err)
			}
			c.close()
		}
	}
	for _, level := range []string{`"level":"ERROR"`, `"level":"WARN"`} {
		if line := lineWith(p.logged(), level); line != "" {
			t.Errorf("the log has %s", line)
		}
	}
}

// TestR24_TrailingDot: crypto/tls refuses it before any of our code runs.
func TestR24_TrailingDot(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	p := startProxy(t, setup{certificates: newCertificates(t), backend: server.address})
	for _, port := range p.ports() {
		for _, name := range []string{"a.example.", "unknown.test.", "a.."} {
			requireAlert(t, port, helloFor(t, name), decodeError)
		}
	}
	server.requireClients(t, p, 0)
}

// TestR33_UnknownName: refused with its alert, or served with the default, as
// the configuration says.
func TestR33_UnknownName(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	unknown := []string{"unknown.test", "x.y.w.example", "w.example", "../a.example", "*.w.example", "127.0.0.1", strings.Repeat("n", 60_000)}

	p := startProxy(t, setup{certificates: certs, backend: server.address, tls: "unknown_sni: reject"})
	for i, port := range p.ports() {
		for _, name := range unknown {
			requireAlert(t, port, helloFor(t, name), unrecognizedName)
		}
		p.waitMetric(t, handshakeFailures([]string{"submissions", "submission"}[i], "unknown_sni"), fmt.Sprint(len(unknown)))
	}
	server.requireClients(t, p, 0)
	for _, port := range p.ports() { // known names and clients without one are served
		for name, folder := range map[string]string{"": defaultDomain, "b.example": "b.example", "x.w.example": "*.w.example"} {
			requireFolder(t, port, name, folder)
		}
	}

	p = startProxy(t, setup{certificates: certs, backend: server.address, tls: "unknown_sni: fallback"})
	for _, port := range p.ports() {
		for _, name := range append(unknown, "") {
			requireFolder(t, port, name, defaultDomain)
		}
	}
}

// requireFolder wants the certificate of that folder for a server name.
func requireFolder(t *testing.T, to port, name, folder string) {
	t.Helper()
	c := atHandshake(t, to, "")
	if err := c.startTLS(&tls.Config{ServerName: name, InsecureSkipVerify: true}); err != nil {
		t.Errorf("port %s: server name %.60q: %v", to.name, name, err)
		return
	}
	if leaf := c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0]; leaf.Subject.CommonName != folder {
		t.Errorf("port %s: server name %.60q gets the certificate of %s, want %s", to.name, name, leaf.Subject.CommonName, folder)
	}
	c.close()
}
