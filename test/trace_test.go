package test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// ourTrace is the header that the proxy puts above a message, unfolded.
var ourTrace = regexp.MustCompile(`^Received: from (\S+) \(\[([^]]+)\]\)( \(using (TLSv1\.\d) with cipher (\S+) for server name (\S+)\))?` +
	` by (\S+) with (\S+) id (\S+); \w{3}, \d\d \w{3} \d{4} [\d:]{8} [-+]\d{4}$`)

// cutTraces finds the proxy's headers in a text. It returns what the expression
// above matches in each, and the text without them.
func cutTraces(text, lineEnd string) (traces [][]string, rest string) {
	rest = anyTrace.ReplaceAllStringFunc(text, func(header string) string {
		unfolded := strings.ReplaceAll(strings.TrimSuffix(header, lineEnd), lineEnd+"\t", " ")
		match := ourTrace.FindStringSubmatch(unfolded)
		if match == nil {
			return header
		}
		traces = append(traces, match)
		return ""
	})
	return traces, rest
}

var anyTrace = regexp.MustCompile(`Received:[^\n]*\n(\t[^\n]*\n)*`)

// requireTrace compares the parts of a header.
func requireTrace(t *testing.T, parts []string, helo, protocol string, line sessionLine) {
	t.Helper()
	host := "mail.a.example"
	if line.Listener == "submissions" { // it has no hostname key
		var err error
		if host, err = os.Hostname(); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{parts[0], helo, clientAddress, parts[3], line.TLSVersion, line.Cipher, line.ServerName, host, protocol, line.ID}
	if strings.Join(parts, "|") != strings.Join(want, "|") || (parts[3] == "") != (line.TLSVersion == "") {
		t.Errorf("the header says %q, want %q", parts[1:], want[1:])
	}
}

// TestTrace_RealServers: Postfix and Exim deliver with one more header, which
// tells how the client came; the message below is as it was sent.
func TestTrace_RealServers(t *testing.T) {
	t.Parallel()
	need(t, "swaks")
	mx, other := startPostfix(t), startExim(t)
	certs := newCertificates(t)
	for _, server := range []struct {
		name, address string
		box           maildir
	}{{"Postfix", mx.proxied, mx.maildir}, {"Exim", other.proxied, other.maildir}} {
		p := startProxy(t, setup{certificates: certs, backend: server.address, mx: loopback(t), trace: "true"})
		for _, port := range p.ports() {
			t.Run(server.name+"/"+port.name, func(t *testing.T) {
				marker := newMarker()
				message := awkwardMessage("user@a.example", marker)
				local := fmt.Sprintf("%s:%d", clientAddress, freePort(t))
				arguments := append(swaksMessage(t, message), "--local-interface", local,
					"--from", "sender@client.test", "--to", "user@a.example", "--ehlo", "client.test")
				protocol := "ESMTP"
				if port.name != plainPort {
					protocol = "ESMTPS"
					arguments = append(arguments, port.swaksTLS, "--tls-sni", "b.example")
				}
				swaks(t, port.address, arguments...).requireCode(t, 0)
				trace := server.box.requireDelivered(t, marker, message)
				traces, rest := cutTraces(trace, "\n")
				if len(traces) != 1 || strings.Count(rest, "Received:") != 1 {
					t.Fatalf("the message has not one header of the proxy's and one of the server's:\n%s", trace)
				}
				requireTrace(t, traces[0], "client.test", protocol, p.waitSession(t, local))
			})
		}
	}
}

// TestTrace_EachMessage: every message of a session gets one header, which
// tells of AUTH once there was one, and no other byte is added.
func TestTrace_EachMessage(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader, func(r *recorder) {
		r.ehlo = crlf("250-recorder.test", "250-CHUNKING", "250-BINARYMIME", "250 AUTH PLAIN")
	})
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, mx: loopback(t), trace: "true"})
	for _, port := range p.ports() {
		marker := newMarker()
		c := open(t, port, clientOptions{local: clientAddress, serverName: "b.example", trust: certs})
		var sent bytes.Buffer
		say := func(code int, text string) string {
			t.Helper()
			sent.WriteString(text + "\r\n")
			return c.must(t, code, text)
		}
		ehlo := say(250, "EHLO "+marker)
		if strings.Contains(ehlo, "CHUNKING") || strings.Contains(ehlo, "BINARYMIME") {
			t.Errorf("port %s: the client sees %q", port.name, ehlo)
		}
		protocols := []string{"ESMTPS", "ESMTPSA"}
		if port.name == plainPort {
			protocols = []string{"ESMTP", "ESMTP"}
		}
		for i := range protocols {
			if port.name != plainPort && i == 1 {
				say(235, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00a\x00b")))
			}
			say(250, "MAIL FROM:<a@x>")
			say(250, "RCPT TO:<b@x>")
			say(354, "DATA")
			say(250, fmt.Sprintf("X-Message: %d\r\n folded\r\n\r\nReceived: from a.body\r\n..\r\n\x00\xff\r\n.", i))
		}
		say(221, "QUIT")
		line := p.waitSession(t, c.local())
		got := string(server.waitSession(t, marker).bytes())
		traces, rest := cutTraces(got, "\r\n")
		if len(traces) != 2 || strings.Count(got, "DATA\r\nReceived: from "+marker+" ") != 2 {
			t.Fatalf("port %s: not one header above each message: %q", port.name, got)
		}
		for i, protocol := range protocols {
			requireTrace(t, traces[i], marker, protocol, line)
		}
		requireSame(t, "to the backend on port "+port.name, []byte(rest), sent.Bytes())
	}
}

// TestTrace_NotAsked: without the option no header is added, and CHUNKING stays.
func TestTrace_NotAsked(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, mx: loopback(t)})
	for _, port := range p.ports() {
		marker := newMarker()
		c := open(t, port, clientOptions{serverName: "b.example", trust: certs})
		c.must(t, 250, "NOOP "+marker)
		if port.name == plainPort {
			c.must(t, 250, "VRFY x") // for the EHLO to be the backend's
		}
		if ehlo := c.must(t, 250, "EHLO client.test"); !strings.Contains(ehlo, "CHUNKING") {
			t.Errorf("port %s: the client sees %q", port.name, ehlo)
		}
		c.sendPlain(t, "client.test", marker)
		c.mustEnd(t, 221, "QUIT")
		if got := string(server.waitSession(t, marker).bytes()); strings.Contains(got, "Received:") {
			t.Errorf("port %s: the backend got %q", port.name, got)
		}
	}
}

// TestTrace_Smuggling: the header changes nothing in a message that some
// servers take for two (R57), and what ends such a message gets none.
func TestTrace_Smuggling(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address, mx: loopback(t), trace: "true"})
	for _, end := range smuggled {
		for _, port := range p.ports() {
			marker := newMarker()
			c := open(t, port, clientOptions{local: clientAddress, serverName: "b.example", trust: certs})
			c.mailTo(t, marker, "r@x")
			c.must(t, 354, "DATA")
			body := "Subject: x\r\n\r\ntext" + end + "MAIL FROM:<smuggled@x>\r\nRCPT TO:<r@x>\r\nDATA\r\nsmuggled" + end + "\r\n.\r\n"
			c.mustSend(t, body)
			if _, err := c.expect(250); err != nil {
				c.fatal(t, err)
			}
			c.mustEnd(t, 221, "QUIT")
			traces, rest := cutTraces(string(server.waitSession(t, marker).bytes()), "\r\n")
			want := "EHLO " + marker + "\r\nMAIL FROM:<sender@client.test>\r\nRCPT TO:<r@x>\r\nDATA\r\n" + body + "QUIT\r\n"
			requireSame(t, fmt.Sprintf("%q, port %s", end, port.name), []byte(rest), []byte(want))
			if len(traces) != 1 {
				t.Errorf("%q, port %s: %d headers", end, port.name, len(traces))
			}
		}
	}
}
