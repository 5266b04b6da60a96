package test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// reloadErrors is the sample that counts pairs that could not be taken.
const reloadErrors = `smtp_tlsproxy_certificate_reloads_total{result="error"}`

// TestR29_R42_RenewalUnderLoad: 50 sessions are open and clients come all the
// time, while certificates are renewed in each way that there is. No handshake
// fails, the new certificate is soon served, and the sessions go on.
func TestR29_R42_RenewalUnderLoad(t *testing.T) {
	t.Parallel()
	server := startRecorder(t, withHeader)
	certs := newCertificates(t)
	archive := filepath.Join(t.TempDir(), "archive")
	makeCertbotFolder(t, certs, archive, "b.example")
	makeKubernetesFolder(t, certs, "c.example")
	p := startProxy(t, setup{certificates: certs, backend: server.address, rescan: "1h"})

	var sessions []*client
	for i := range 50 {
		c := open(t, p.ports()[i%2], clientOptions{serverName: domains[i%3], trust: certs})
		c.must(t, 250, "EHLO session.test")
		sessions = append(sessions, c)
	}
	clients := hammer(t, p)
	folder := filepath.Join(certs.dir, "a.example")
	renewals := []struct {
		name, domain string
		renew        func(t *testing.T, chain, key string)
	}{
		{"key first", "a.example", func(t *testing.T, chain, key string) {
			faults := p.metric(t, reloadErrors)
			replaceFile(t, filepath.Join(folder, "key.pem"), key)
			p.waitChanged(t, reloadErrors, faults) // the pair does not match, and the last good one stays
			clients.waitMore(t, 20)
			replaceFile(t, filepath.Join(folder, "cert.pem"), chain)
		}},
		{"chain first", "a.example", func(t *testing.T, chain, key string) {
			faults := p.metric(t, reloadErrors)
			replaceFile(t, filepath.Join(folder, "cert.pem"), chain)
			p.waitChanged(t, reloadErrors, faults)
			clients.waitMore(t, 20)
			replaceFile(t, filepath.Join(folder, "key.pem"), key)
		}},
		{"in place", "a.example", func(t *testing.T, chain, key string) {
			for name, text := range map[string]string{"cert.pem": chain, "key.pem": key} {
				file, err := os.OpenFile(filepath.Join(folder, name), os.O_WRONLY|os.O_TRUNC, 0)
				if err != nil {
					t.Fatal(err)
				}
				for _, half := range []string{text[:len(text)/2], text[len(text)/2:]} {
					if _, err := file.WriteString(half); err != nil {
						t.Fatal(err)
					}
					clients.waitMore(t, 5)
				}
				file.Close()
			}
		}},
		{"renamed over", "a.example", func(t *testing.T, chain, key string) {
			replaceFile(t, filepath.Join(folder, "cert.pem"), chain)
			replaceFile(t, filepath.Join(folder, "key.pem"), key)
		}},
		{"folder made anew", "a.example", func(t *testing.T, chain, key string) {
			aside := filepath.Join(certs.dir, ".aside-"+newMarker())
			writeFile(t, filepath.Join(aside, "new", "cert.pem"), chain)
			writeFile(t, filepath.Join(aside, "new", "key.pem"), key)
			rename(t, folder, filepath.Join(aside, "old"))
			rename(t, filepath.Join(aside, "new"), folder)
		}},
		{"certbot", "b.example", func(t *testing.T, chain, key string) { renewCertbot(t, certs, archive, "b.example", chain, key) }},
		{"Kubernetes", "c.example", func(t *testing.T, chain, key string) { swapKubernetes(t, certs, "c.example", chain, key) }},
	}
	for _, renewal := range renewals {
		for range 2 { // the first may have ended the watch
			chain, key, err := certs.ca.Issue(devcert.Leaf{Names: []string{renewal.domain}})
			if err != nil {
				t.Fatal(err)
			}
			renewal.renew(t, string(chain), string(key))
			want := serialOf(t, chain)
			eventually(t, renewal.name+": the new certificate is served", func() bool {
				return clients.serial(renewal.domain) == want
			})
		}
	}
	clients.waitMore(t, 20)
	clients.stop()
	for i, c := range sessions {
		if err := c.extend(); err != nil {
			t.Fatal(err)
		}
		c.mustSend(t, "MAIL FROM:<s@x>\r\nRCPT TO:<r@x>\r\nDATA\r\n")
		for _, code := range []int{250, 250, 354} {
			if _, err := c.expect(code); err != nil {
				t.Fatalf("session %d of %d: %v", i, len(sessions), err)
			}
		}
		c.must(t, 250, "Subject: x\r\n\r\ntext\r\n.")
		c.mustEnd(t, 221, "QUIT")
		c.close()
	}
	for _, listener := range []string{"submissions", "submission"} {
		p.waitMetric(t, fmt.Sprintf(`smtp_tlsproxy_messages_total{listener=%q,tls="true"}`, listener), "25")
	}
}

// waitChanged waits until a sample has another value.
func (p *proxy) waitChanged(t *testing.T, name, old string) {
	t.Helper()
	eventually(t, name+" is no longer "+old, func() bool { return p.metric(t, name) != old })
}

// hammering are clients that come all the time.
type hammering struct {
	stop  func()
	count atomic.Int64

	mu      sync.Mutex
	serials map[string]string // last served, by domain
}

// hammer does handshakes for all domains on both ports until it is stopped,
// and wants all of them to succeed.
func hammer(t *testing.T, p *proxy) *hammering {
	t.Helper()
	h := &hammering{serials: make(map[string]string)}
	done := make(chan struct{})
	var workers sync.WaitGroup
	h.stop = sync.OnceFunc(func() { close(done); workers.Wait() })
	t.Cleanup(h.stop)
	for _, port := range p.ports() {
		workers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				name := domains[i%len(domains)]
				serial, err := shakeOnce(port, clientOptions{serverName: name, trust: p.certificates}.config())
				if err != nil {
					t.Errorf("port %s, %s, handshake %d: %v", port.name, name, i, err)
					continue
				}
				h.mu.Lock()
				h.serials[name] = serial
				h.mu.Unlock()
				h.count.Add(1)
			}
		})
	}
	return h
}

func shakeOnce(to port, config *tls.Config) (serial string, err error) {
	c, err := tryDial(to.address, "")
	if err != nil {
		return "", err
	}
	defer c.close()
	if err := c.plainPhase(to); err != nil {
		return "", err
	}
	if err := c.startTLS(config); err != nil {
		return "", err
	}
	return c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

func (h *hammering) serial(domain string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.serials[domain]
}

// waitMore waits for so many handshakes from now on.
func (h *hammering) waitMore(t *testing.T, n int64) {
	t.Helper()
	until := h.count.Load() + n
	eventually(t, fmt.Sprintf("%d more handshakes are done", n), func() bool { return h.count.Load() >= until })
}

func serialOf(t *testing.T, chain []byte) string {
	t.Helper()
	block, _ := pem.Decode(chain)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert.SerialNumber.String()
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	writeFile(t, path+".new", text)
	rename(t, path+".new", path)
}

// relink makes a link point elsewhere at once.
func relink(t *testing.T, target, link string) {
	t.Helper()
	if err := os.Symlink(target, link+".tmp"); err != nil {
		t.Fatal(err)
	}
	rename(t, link+".tmp", link)
}

// makeCertbotFolder turns a folder into links as certbot makes them.
func makeCertbotFolder(t *testing.T, certs *certificates, archive, domain string) {
	t.Helper()
	mustRemove(t, filepath.Join(certs.dir, domain, "cert.pem"), filepath.Join(certs.dir, domain, "key.pem"))
	chain, key, err := certs.ca.Issue(devcert.Leaf{Names: []string{domain}})
	if err != nil {
		t.Fatal(err)
	}
	renewCertbot(t, certs, archive, domain, string(chain), string(key))
}

// renewCertbot writes files with the next number, and then makes each link
// anew: certbot removes it first.
func renewCertbot(t *testing.T, certs *certificates, archive, domain, chain, key string) {
	t.Helper()
	number := newMarker()
	for _, each := range [][2]string{{"privkey", key}, {"fullchain", chain}} {
		writeFile(t, filepath.Join(archive, domain, each[0]+number+".pem"), each[1])
	}
	for _, name := range []string{"privkey", "fullchain"} {
		link := filepath.Join(certs.dir, domain, name+".pem")
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(archive, domain, name+number+".pem"), link); err != nil {
			t.Fatal(err)
		}
	}
}

// makeKubernetesFolder turns a folder into a mounted Secret.
func makeKubernetesFolder(t *testing.T, certs *certificates, domain string) {
	t.Helper()
	folder := filepath.Join(certs.dir, domain)
	mustRemove(t, filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem"))
	chain, key, err := certs.ca.Issue(devcert.Leaf{Names: []string{domain}})
	if err != nil {
		t.Fatal(err)
	}
	swapKubernetes(t, certs, domain, string(chain), string(key))
	for _, name := range []string{"tls.crt", "tls.key"} {
		relink(t, filepath.Join("..data", name), filepath.Join(folder, name))
	}
}

// swapKubernetes does what the kubelet does: a folder beside, and one switch.
func swapKubernetes(t *testing.T, certs *certificates, domain, chain, key string) {
	t.Helper()
	data := filepath.Join(certs.dir, domain, "..data")
	old, _ := os.Readlink(data) // "" the first time
	next := ".." + strings.ReplaceAll(newMarker(), "-", "_")
	writeFile(t, filepath.Join(certs.dir, domain, next, "tls.crt"), chain)
	writeFile(t, filepath.Join(certs.dir, domain, next, "tls.key"), key)
	relink(t, next, data)
	if old != "" {
		if err := os.RemoveAll(filepath.Join(certs.dir, domain, old)); err != nil {
			t.Fatal(err)
		}
	}
}
