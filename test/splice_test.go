package test

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestR15_SplicedPorts is the attack on two ports with one certificate
// (Opossum): a man in the middle joins a client of one port to the other, and
// says something in plain text before. Neither side may take that for a part
// of the TLS session.
func TestR15_SplicedPorts(t *testing.T) {
	t.Parallel()
	const blob = "250 the backend's own reply\r\n"
	server := startRecorder(t, withHeader, func(r *recorder) { r.blob = []byte(blob) })
	certs := newCertificates(t)
	p := startProxy(t, setup{certificates: certs, backend: server.address})
	attacks := []struct {
		what   string
		client port // as the client believes
		target port
		middle func(client, target *client) error // what the attacker says and hears before he joins them
		want   string
	}{
		{
			"a client of 465 at 587", p.ports()[0], p.ports()[1],
			func(_, target *client) error {
				if _, err := target.expect(220); err != nil {
					return err
				}
				for _, step := range []struct {
					line string
					code int
				}{{"EHLO attacker.test", 250}, {"NOOP attacker", 250}, {"MAIL FROM:<attacker@attacker.test>", 530}, {"STARTTLS", 220}} {
					if _, err := target.exchange(step.line, step.code); err != nil {
						return err
					}
				}
				return nil
			},
			// It misses its greeting, and gets no word that it did not ask for.
			blob + "221 2.0.0 Bye\r\n",
		},
		{
			"a client of 587 at 465", p.ports()[1], p.ports()[0],
			func(client, _ *client) error {
				for _, say := range []string{
					"220 attacker.test ESMTP\r\n", "250-attacker.test\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n", "220 go on\r\n",
				} {
					if strings.HasPrefix(say, "220 attacker") {
						if err := client.send([]byte(say)); err != nil {
							return err
						}
						continue
					}
					if _, err := client.reader.ReadString('\n'); err != nil {
						return err
					}
					if err := client.send([]byte(say)); err != nil {
						return err
					}
				}
				return nil
			},
			// A greeting too many; all of it is the backend's.
			"220 recorder.test ESMTP\r\n" + blob + "221 2.0.0 Bye\r\n",
		},
	}
	for _, attack := range attacks {
		address := startServer(t, func(conn net.Conn) {
			target, err := tryDial(attack.target.address, "")
			if err != nil {
				t.Error(err)
				return
			}
			defer target.close()
			client := &client{raw: conn.(*net.TCPConn)}
			client.use(conn)
			if err := attack.middle(client, target); err != nil {
				t.Errorf("%s: the attacker: %v", attack.what, err)
				return
			}
			join(client, target)
		})
		marker := newMarker()
		c := atHandshake(t, port{name: attack.client.name, address: address}, "")
		if err := c.startTLS(clientOptions{serverName: "a.example", trust: certs}.config()); err != nil {
			c.fatal(t, err)
		}
		commands := "XBLOB " + marker + "\r\nQUIT\r\n"
		c.mustSend(t, commands)
		if got := c.rest(t); got != attack.want {
			t.Errorf("%s: the client got %q, want %q", attack.what, got, attack.want)
		}
		if got := string(server.waitSession(t, marker).bytes()); got != commands {
			t.Errorf("%s: the backend got %q, want %q", attack.what, got, commands)
		}
	}
	server.requireClients(t, p, len(attacks))
}

// join passes everything on, both ways, until both sides have ended.
func join(a, b *client) {
	var both sync.WaitGroup
	for from, to := range map[*client]*client{a: b, b: a} {
		both.Go(func() {
			_, _ = io.Copy(to.raw, from.reader)
			_ = to.raw.CloseWrite()
			_ = from.raw.SetReadDeadline(time.Now().Add(patience))
		})
	}
	both.Wait()
}
