package test

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
)

// deliverTo sends a message to the oracle through a port with the Go client,
// and returns what the oracle and the proxy say of the session.
func deliverTo(t *testing.T, oracle *aiosmtpd, p *proxy, to port, options clientOptions) (oracleEvent, sessionLine, *client) {
	t.Helper()
	marker := newMarker()
	c := openUnverified(t, to, options)
	c.mailTo(t, marker, "user@a.example")
	c.must(t, 354, "DATA")
	c.must(t, 250, "Subject: "+marker+"\r\n\r\ntext\r\n.")
	c.must(t, 221, "QUIT")
	header, _ := oracle.waitSession(t, marker)
	return header, p.waitSession(t, c.local()), c
}

// openUnverified is open for server names that no certificate covers.
func openUnverified(t *testing.T, to port, options clientOptions) *client {
	t.Helper()
	c := dial(t, to.address, options.local)
	config := options.config()
	config.InsecureSkipVerify = true
	if err := c.enter(to, config); err != nil {
		c.fatal(t, err)
	}
	return c
}

// TestR46_TLVsTellTheTruth lets aiosmtpd read the header, with swaks as the
// client, whose OpenSSL names version and cipher.
func TestR46_TLVsTellTheTruth(t *testing.T) {
	t.Parallel()
	need(t, "swaks")
	oracle := startAiosmtpd(t)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: oracle.address})
	for _, port := range p.ports() {
		for _, version := range []string{"1.2", "1.3"} {
			t.Run(port.name+"/TLSv"+version, func(t *testing.T) {
				marker := newMarker()
				local := fmt.Sprintf("%s:%d", clientAddress, freePort(t))
				r := swaks(t, port.address, port.swaksTLS, "--tls-sni", "B.Example", "--tls-protocol", "tlsv"+strings.ReplaceAll(version, ".", "_"),
					"--tls-verify", "--tls-ca-path", certs.file, "--local-interface", local,
					"--from", "sender@client.test", "--to", "user@a.example", "--ehlo", marker)
				r.requireCode(t, 0)
				header, _ := oracle.waitSession(t, marker)
				line := p.waitSession(t, local)
				_, started, _ := strings.Cut(r.output, "TLS started with cipher ")
				told := strings.Split(strings.Fields(started)[0], ":") // VERSION:CIPHER:BITS

				requireAddresses(t, header, local, port.address)
				requireTLVs(t, header, map[string]string{
					"SSL": "true", "SSL_CLIENT": "1", "SSL_VERSION": told[0], "SSL_CIPHER": told[1],
					"AUTHORITY": "b.example", "UNIQUE_ID": line.ID,
				})
				if "TLSv"+version != told[0] {
					t.Errorf("swaks negotiated %s", told[0])
				}
			})
		}
	}
}

// requireAddresses compares what the header told with the client's socket.
func requireAddresses(t *testing.T, header oracleEvent, source, destination string) {
	t.Helper()
	gotSource := net.JoinHostPort(header.Source, fmt.Sprint(header.SourcePort))
	gotDestination := net.JoinHostPort(header.Destination, fmt.Sprint(header.DestinationPort))
	if !header.Valid || gotSource != source || gotDestination != destination {
		t.Errorf("the header says %s to %s (valid %v %s), want %s to %s", gotSource, gotDestination, header.Valid, header.Error, source, destination)
	}
	if header.Version == 2 && header.Command != 1 {
		t.Errorf("the header's command is %d, want 1 (PROXY)", header.Command)
	}
}

// requireTLVs wants exactly these TLVs besides a correct CRC32C, within the
// limit, and a verify result that claims no client certificate.
func requireTLVs(t *testing.T, header oracleEvent, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got, found := header.tlv(name); !found || got != value {
			t.Errorf("TLV %s is %q (there: %v), want %q", name, got, found, value)
		}
	}
	for name := range header.TLVs {
		if _, wanted := want[name]; !wanted && name != "CRC32C" && name != "SSL_VERIFY" {
			t.Errorf("TLV %s, which the test does not expect: %v", name, header.TLVs[name])
		}
	}
	if verify, found := header.tlv("SSL_VERIFY"); !found || verify == "0" {
		t.Errorf("the SSL TLV's verify field is %q: it claims a verified client certificate", verify)
	}
	if header.CRC != "correct" {
		t.Errorf("the CRC32C is %s", header.CRC)
	}
	if header.Length > 232 {
		t.Errorf("the header has %d bytes, more than Exim reads", header.Length)
	}
}

// TestR44_IPv6Header: both ends in IPv6, in both versions.
func TestR44_IPv6Header(t *testing.T) {
	t.Parallel()
	oracle := startAiosmtpd(t)
	certs := newCertificates(t)
	for _, version := range []string{"proxy-v1", "proxy-v2"} {
		p := startProxy(t, setup{
			certificates: certs, backend: oracle.address, clientInfo: version,
			submissions: fmt.Sprintf("[::1]:%d", freePort(t)), submission: fmt.Sprintf("[::1]:%d", freePort(t)),
		})
		for _, port := range p.ports() {
			header, line, c := deliverTo(t, oracle, p, port, clientOptions{serverName: "a.example", trust: certs})
			requireAddresses(t, header, c.local(), port.address)
			if version == "proxy-v2" {
				requireTLVs(t, header, map[string]string{
					"SSL": "true", "SSL_CLIENT": "1", "SSL_VERSION": "TLSv1.3", "SSL_CIPHER": line.Cipher,
					"AUTHORITY": "a.example", "UNIQUE_ID": line.ID,
				})
			}
		}
	}
}

// TestR43_V1LineIsExact compares the whole header.
func TestR43_V1LineIsExact(t *testing.T) {
	t.Parallel()
	oracle := startAiosmtpd(t)
	certs := newCertificates(t)
	v4 := setup{certificates: certs, backend: oracle.address, clientInfo: "proxy-v1"}
	v6 := v4
	v6.submissions, v6.submission = fmt.Sprintf("[::1]:%d", freePort(t)), fmt.Sprintf("[::1]:%d", freePort(t))
	for family, s := range map[string]setup{"TCP4": v4, "TCP6": v6} {
		p := startProxy(t, s)
		for _, port := range p.ports() {
			local := clientAddress
			if family == "TCP6" {
				local = "::1"
			}
			header, _, c := deliverTo(t, oracle, p, port, clientOptions{local: local, serverName: "a.example", trust: certs})
			want := fmt.Sprintf("PROXY %s %s %s %d %d\r\n", family, local, port.host(t), portOf(t, c.local()), portOf(t, port.address))
			if got := string(header.raw(t)); got != want {
				t.Errorf("port %s: the header is %q, want %q", port.name, got, want)
			}
		}
	}
}

// TestR43_HeaderComesInOneRead: Postfix and Exim take what one read gives.
// The header must be whole in it, and nothing may follow before the greeting.
func TestR43_HeaderComesInOneRead(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	for _, version := range []string{"proxy-v1", "proxy-v2"} {
		p := startProxy(t, setup{certificates: certs, backend: server.address, clientInfo: version})
		for _, port := range p.ports() {
			marker := newMarker()
			c := open(t, port, clientOptions{serverName: "a.example", trust: certs})
			c.must(t, 250, "EHLO "+marker)
			c.must(t, 221, "QUIT")
			s := server.waitSession(t, marker)
			if s.firstRead != len(s.header) || len(s.header) == 0 || len(s.header) > 232 {
				t.Errorf("%s, port %s: the first read gave %d bytes and the header has %d", version, port.name, s.firstRead, len(s.header))
			}
		}
	}
}

// serverNameOf is a valid server name of that many bytes.
func serverNameOf(length int) string {
	var name strings.Builder
	for rest := length - len("long.test"); rest > 0; {
		label := min(rest-1, 63)
		if rest-1-label == 1 { // would leave a dot alone
			label--
		}
		name.WriteString(strings.Repeat("n", label) + ".")
		rest -= label + 1
	}
	return name.String() + "long.test"
}

// TestR43_TLVsAreDroppedFromTheRight: what does not fit into 232 bytes goes,
// the last of ssl, authority, unique_id, crc32c first.
func TestR43_TLVsAreDroppedFromTheRight(t *testing.T) {
	t.Parallel()
	oracle := startAiosmtpd(t)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: oracle.address})
	port := p.ports()[0]
	send := func(name string) (oracleEvent, sessionLine) {
		header, line, _ := deliverTo(t, oracle, p, port, clientOptions{serverName: name, trust: certs})
		return header, line
	}
	short, line := send(serverNameOf(20))
	if short.CRC != "correct" {
		t.Fatalf("a header of %d bytes has no CRC32C", short.Length)
	}
	room := 232 - short.Length + 20 // the longest name that leaves all in
	for _, test := range []struct {
		length  int
		present []string
	}{
		{room, []string{"SSL", "AUTHORITY", "UNIQUE_ID", "CRC32C"}},
		{room + 1, []string{"SSL", "AUTHORITY", "UNIQUE_ID"}},
		{room + 7, []string{"SSL", "AUTHORITY", "UNIQUE_ID"}},
		{room + 8, []string{"SSL", "AUTHORITY"}},
		{room + 7 + 3 + len(line.ID), []string{"SSL", "AUTHORITY"}},
		{room + 8 + 3 + len(line.ID), []string{"SSL"}},
		{200, []string{"SSL"}},
		{253, []string{"SSL"}},
	} {
		name := serverNameOf(test.length)
		header, _ := send(name)
		for _, tlv := range []string{"SSL", "AUTHORITY", "UNIQUE_ID", "CRC32C"} {
			_, found := header.tlv(tlv)
			if found != strings.Contains(strings.Join(test.present, " "), tlv) {
				t.Errorf("server name of %d bytes: TLV %s there: %v; want exactly %v; the header has %d bytes", test.length, tlv, found, test.present, header.Length)
			}
		}
		if authority, found := header.tlv("AUTHORITY"); found && authority != name {
			t.Errorf("AUTHORITY is %q, want %q", authority, name)
		}
		if header.CRC == "wrong" || header.Length > 232 {
			t.Errorf("server name of %d bytes: the header has %d bytes and its CRC32C is %s", test.length, header.Length, header.CRC)
		}
	}
}

// TestR46_InvalidSNIIsNotPassedOn: a name that is none gets the default
// certificate, and the backend hears nothing of it.
func TestR46_InvalidSNIIsNotPassedOn(t *testing.T) {
	t.Parallel()
	oracle := startAiosmtpd(t)
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: oracle.address})
	for _, name := range []string{
		"", "../a.example", "*.w.example", "a b.example", "b.example\nlevel=error", "b.example\x00.c.example",
		"b..example", "-b.example", strings.Repeat("n", 64) + ".example", serverNameOf(254), "b\u00fc.example", "127.0.0.1.",
	} {
		for _, port := range p.ports() {
			if name == "127.0.0.1." && port.name == "465" {
				continue // once is enough for a form that Go's client changes
			}
			header, _, c := deliverTo(t, oracle, p, port, clientOptions{serverName: name, trust: certs})
			if authority, found := header.tlv("AUTHORITY"); found {
				t.Errorf("server name %q: AUTHORITY is %q, want none", name, authority)
			}
			leaf := c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
			if leaf.Subject.CommonName != defaultDomain {
				t.Errorf("server name %q: the certificate is %s's, want the default's", name, leaf.Subject.CommonName)
			}
			if header.CRC != "correct" {
				t.Errorf("server name %q: the CRC32C is %s", name, header.CRC)
			}
		}
	}
}

// TestR48_LongestHeaderIsAccepted: the longest server name over IPv6 makes
// the largest header; Exim reads 232 bytes and Postfix 536.
func TestR48_LongestHeaderIsAccepted(t *testing.T) {
	t.Parallel()
	certs := newCertificates(t)
	deliver := func(t *testing.T, box maildir, backend string, limit int) error {
		p := startProxy(t, setup{
			certificates: certs, backend: backend, maxHeader: limit,
			submissions: fmt.Sprintf("[::1]:%d", freePort(t)), submission: fmt.Sprintf("[::1]:%d", freePort(t)),
		})
		for _, port := range p.ports() {
			options := clientOptions{serverName: serverNameOf(253), trust: certs}
			config := options.config()
			config.InsecureSkipVerify = true
			c := dial(t, port.address, "")
			if err := c.enter(port, config); err != nil {
				return err
			}
			if _, err := c.exchange("EHLO client.test", 250); err != nil {
				return err
			}
			marker := newMarker()
			c.must(t, 250, "MAIL FROM:<sender@client.test>")
			c.must(t, 250, "RCPT TO:<user@a.example>")
			c.must(t, 354, "DATA")
			c.must(t, 250, "Subject: "+marker+"\r\n\r\ntext\r\n.")
			c.must(t, 221, "QUIT")
			if trace, _ := splitTrace(box.waitMessage(t, marker)); !strings.Contains(strings.ToUpper(string(trace)), "[IPV6:::1]") && !strings.Contains(string(trace), "[::1]") {
				t.Errorf("port %s: the trace fields do not name the client ::1:\n%s", port.name, trace)
			}
		}
		return nil
	}
	t.Run("Exim", func(t *testing.T) {
		t.Parallel()
		server := startExim(t)
		if err := deliver(t, server.maildir, server.proxied, 232); err != nil {
			t.Error(err)
		}
		// The control: Exim does not take the header that 536 bytes allow.
		if err := deliver(t, server.maildir, server.proxied, 536); err == nil {
			t.Error("Exim took a header of more than 232 bytes; this test proves nothing any more")
		}
	})
	t.Run("Postfix", func(t *testing.T) {
		t.Parallel()
		server := startPostfix(t)
		if err := deliver(t, server.maildir, server.proxied, 536); err != nil {
			t.Error(err)
		}
	})
}
