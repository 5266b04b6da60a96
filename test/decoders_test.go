package test

import (
	"cmp"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// decoder is a load balancer in TCP mode that reads a PROXY header, takes it
// off, and logs what it said: "told", source and destination, and whatever
// TLVs it can tell.
type decoder struct {
	start func(t testing.TB, address, backend string) *process
	keys  string // of a backend with version 2, for what it can read
	tlvs  bool   // the line ends with AUTHORITY and UNIQUE_ID, "-" for none
}

var decoders = map[string]decoder{
	"HAProxy": {start: haproxyDecoder, tlvs: true},              // refuses a header whose CRC32C is wrong
	"nginx":   {start: nginxDecoder, keys: "proxy_tlvs: [ssl]"}, // before 1.23.2 it reads 107 bytes, the longest of version 1
}

func haproxyDecoder(t testing.TB, address, backend string) *process {
	t.Helper()
	need(t, "haproxy")
	program, err := lookPath("haproxy")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "haproxy.cfg")
	writeFile(t, file, fmt.Sprintf(`global
    log stdout format raw local0
defaults
    mode tcp
    log global
    log-format "told %%ci:%%cp %%fi:%%fp %%[fc_pp_authority] %%[fc_pp_unique_id]"
    timeout connect 20s
    timeout client 1m
    timeout server 1m
listen decoder
    bind %s accept-proxy
    server recorder %s
`, address, backend))
	return startProcess(t, "HAProxy", filepath.Join(dir, "haproxy.log"), exec.Command(program, "-db", "-f", file))
}

// nginxStream is where Debian puts the module.
const nginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

func nginxDecoder(t testing.TB, address, backend string) *process {
	t.Helper()
	need(t, "nginx")
	program, err := lookPath("nginx")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "nginx.conf")
	writeFile(t, file, fmt.Sprintf(`load_module %s;
daemon off;
master_process off;
error_log stderr;
pid %[2]s/nginx.pid;
events {}
stream {
    log_format told "told $proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port";
    access_log /dev/stdout told;
    server {
        listen %[3]s proxy_protocol;
        proxy_pass %[4]s;
    }
}
`, nginxStream, dir, address, backend))
	return startProcess(t, "nginx", filepath.Join(dir, "nginx.log"), exec.Command(program, "-e", "stderr", "-p", dir, "-c", file))
}

// TestR48_LoadBalancersReadTheHeader: what HAProxy and nginx, whose decoders
// are not ours, make of either version is the address of swaks and that which
// it connected to; and behind the header they find nothing but SMTP.
func TestR48_LoadBalancersReadTheHeader(t *testing.T) {
	t.Parallel()
	need(t, "swaks")
	server := startRecorder(t, withoutHeader)
	certs := newCertificates(t)
	for name, decoder := range decoders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := loopback(t)
			told := decoder.start(t, address, server.address)
			waitListening(t, told, address)
			for _, version := range []string{"proxy-v1", "proxy-v2"} {
				for _, client := range []string{clientAddress, "::1"} {
					s := setup{certificates: certs, backend: address, clientInfo: version}
					if version == "proxy-v2" {
						s.backendKeys = decoder.keys
					}
					if client == "::1" {
						s.submissions, s.submission = fmt.Sprintf("[::1]:%d", freePort(t)), fmt.Sprintf("[::1]:%d", freePort(t))
					}
					p := startProxy(t, s)
					for _, port := range p.ports() {
						t.Run(version+" "+port.name+" "+client, func(t *testing.T) {
							id := sendFrom(t, p, port, client, server)
							source := net.JoinHostPort(client, id.port)
							want := []string{"told", bare(source), bare(port.address)}
							if decoder.tlvs && version == "proxy-v2" {
								want = append(want, "b.example", id.session)
							} else if decoder.tlvs {
								want = append(want, "-", "-")
							}
							line := told.waitLog(t, "told "+bare(source)+" ")
							if got := strings.Fields(line); strings.Join(got, " ") != strings.Join(want, " ") {
								t.Errorf("%s read %q, want %q", name, got, want)
							}
						})
					}
				}
			}
		})
	}
}

// bare is host:port as HAProxy and nginx log it, IPv6 without brackets.
func bare(address string) string { return strings.NewReplacer("[", "", "]", "").Replace(address) }

// sent is what the proxy knows of a session of swaks.
type sent struct{ port, session string }

// sendFrom has swaks send a message under TLS from the address, and the
// recorder get it from its first byte.
func sendFrom(t *testing.T, p *proxy, to port, client string, server *recorder) sent {
	t.Helper()
	marker, source := newMarker(), fmt.Sprint(freePort(t))
	swaks(t, to.address, to.swaksTLS, "--tls-sni", "b.example", "--tls-verify", "--tls-ca-path", p.certificates.file,
		"--local-interface", net.JoinHostPort(client, source),
		"--from", "sender@client.test", "--to", "user@a.example", "--ehlo", marker).requireCode(t, 0)
	if got := string(server.waitSession(t, marker).bytes()); !strings.HasPrefix(got, "EHLO "+marker+"\r\n") {
		t.Errorf("behind the header came %q", got[:min(len(got), 100)])
	}
	line := p.waitSession(t, net.JoinHostPort(client, source))
	return sent{port: source, session: cmp.Or(line.ID, "no id")}
}
