package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// port is what a server listens on: one for each way that sessions take.
type port int

const (
	implicit   port = iota // implicit TLS, ECDSA certificate, no tickets
	implicitRS             // the same with an RSA certificate
	resuming               // implicit TLS with session tickets
	withTLS                // STARTTLS, ECDSA certificate
	ports
)

// server is one of those compared.
type server struct {
	name    string
	note    string // what it does otherwise than the others
	ports   []port // that it has
	hybrid  bool   // offers X25519MLKEM768
	version []string
	// configure writes what the server is started with and returns its command.
	configure func(s site) ([]string, error)
}

// site is where a server is to run.
type site struct {
	dir       string // of its own, for its files
	certs     string // folders ecdsa.bench.example and rsa.bench.example, with cert.pem, key.pem and both.pem
	addresses [ports]string
	sink      string // the backend's port for PROXY headers
	plain     string // and for none
	admin     string // a free address
}

func (s site) pem(name string) string { return filepath.Join(s.certs, name, "both.pem") }

func (s site) write(name, text string) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

const (
	ecdsaName = "ecdsa.bench.example"
	rsaName   = "rsa.bench.example"
)

const stunnel = "stunnel"

// all are the servers in the order in which they take turns.
var all = []server{
	{
		name: "smtp-tlsproxy", ports: []port{implicit, implicitRS, resuming, withTLS}, hybrid: true,
		version: []string{"", "version"}, configure: configureOurs,
	},
	{
		name: "nginx", note: "PROXY version 1; its mail module talks to no backend before MAIL", ports: []port{implicit, implicitRS, resuming, withTLS},
		version: []string{"nginx", "-v"}, configure: configureNginx,
	},
	{
		name: "HAProxy", ports: []port{implicit, implicitRS, resuming},
		version: []string{"haproxy", "-v"}, configure: configureHAProxy,
	},
	{
		name: "Hitch", ports: []port{implicit, implicitRS, resuming},
		version: []string{"hitch", "--version"}, configure: configureHitch,
	},
	{
		name: stunnel, note: "with STARTTLS no PROXY header", ports: []port{implicit, implicitRS, resuming, withTLS},
		version: []string{"stunnel4", "-version"}, configure: configureStunnel,
	},
}

func (s server) has(p port) bool {
	for _, each := range s.ports {
		if each == p {
			return true
		}
	}
	return false
}

// configureOurs has all on that is on by default: the filter, the metrics, the
// log and the limits, which are as high as one client address needs here.
func configureOurs(s site) ([]string, error) {
	text := fmt.Sprintf(`certificates: {directory: %q, default: %s}
listeners:
  - {name: ecdsa, address: %q, mode: implicit}
  - {name: rsa, address: %q, mode: implicit}
  - {name: resuming, address: %q, mode: implicit, tls: {session_tickets: {enabled: true}}}
  - {name: starttls, address: %q, mode: starttls}
backends:
  sink: {addresses: [%q]}
admin: {address: %q}
limits: {connections: 16000, connections_per_client: 16000, handshakes_per_second_per_client: 100000}
`, s.certs, ecdsaName, s.addresses[implicit], s.addresses[implicitRS], s.addresses[resuming], s.addresses[withTLS], s.sink, s.admin)
	path, err := s.write("config.yaml", text)
	return []string{*binary, "serve", "--config", path}, err
}

func configureNginx(s site) ([]string, error) {
	stream := func(p port, name, options string) string {
		return fmt.Sprintf("  server { listen %s ssl; ssl_certificate %s; ssl_certificate_key %s; %s; proxy_protocol on; proxy_pass %s; }\n",
			s.addresses[p], s.pem(name), s.pem(name), options, s.sink)
	}
	const noTickets = "ssl_session_tickets off; ssl_session_cache off"
	text := fmt.Sprintf(`load_module /usr/lib/nginx/modules/ngx_stream_module.so;
load_module /usr/lib/nginx/modules/ngx_mail_module.so;
daemon off; user root; worker_processes 2; worker_rlimit_nofile 20000;
pid %[1]s/pid; error_log %[1]s/log;
events { worker_connections 10000; }
stream {
  ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519; proxy_timeout 1h;
%[2]s}
mail {
  ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve X25519; ssl_session_cache off; ssl_session_tickets off; timeout 1h;
  server_name mail.bench.example; auth_http 127.0.0.1:1/none;
  server { listen %[3]s; protocol smtp; starttls on; ssl_certificate %[4]s; ssl_certificate_key %[4]s; smtp_auth none; }
}
`, s.dir, stream(implicit, ecdsaName, noTickets)+stream(implicitRS, rsaName, noTickets)+stream(resuming, ecdsaName, "ssl_session_tickets on"), s.addresses[withTLS], s.pem(ecdsaName))
	path, err := s.write("nginx.conf", text)
	return []string{"nginx", "-p", s.dir, "-c", path, "-e", filepath.Join(s.dir, "log")}, err
}

func configureHAProxy(s site) ([]string, error) {
	listen := func(p port, name, options string) string {
		return fmt.Sprintf("listen %d\n  bind %s ssl crt %s curves X25519 ssl-min-ver TLSv1.2 %s\n  server sink %s send-proxy-v2\n",
			p, s.addresses[p], s.pem(name), options, s.sink)
	}
	text := `global
  maxconn 8000
  nbthread 2
  tune.ssl.cachesize 0
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
` + listen(implicit, ecdsaName, "no-tls-tickets") + listen(implicitRS, rsaName, "no-tls-tickets") + listen(resuming, ecdsaName, "")
	path, err := s.write("haproxy.cfg", text)
	return []string{"haproxy", "-f", path, "-db"}, err
}

func configureHitch(s site) ([]string, error) {
	frontend := func(p port, name string) string {
		host, number, _ := strings.Cut(s.addresses[p], ":")
		return fmt.Sprintf("frontend = { host = %q  port = %q  pem-file = %q }\n", host, number, s.pem(name))
	}
	host, number, _ := strings.Cut(s.sink, ":")
	text := frontend(implicit, ecdsaName) + frontend(implicitRS, rsaName) + frontend(resuming, ecdsaName) +
		fmt.Sprintf("backend = \"[%s]:%s\"\nworkers = 2\ndaemon = off\nuser = \"root\"\nwrite-proxy-v2 = on\ntls-protos = TLSv1.2 TLSv1.3\necdh-curve = \"X25519\"\nbacklog = 1024\nquiet = on\n", host, number)
	path, err := s.write("hitch.conf", text)
	return []string{"hitch", "--config=" + path}, err
}

func configureStunnel(s site) ([]string, error) {
	service := func(p port, name, options string) string {
		return fmt.Sprintf("[%d]\naccept = %s\ncert = %s\n%s\n", p, s.addresses[p], s.pem(name), options)
	}
	text := "foreground = yes\npid =\ndebug = err\noutput = " + filepath.Join(s.dir, "log") + "\nsslVersionMin = TLSv1.2\ncurves = X25519\nTIMEOUTidle = 3600\n" +
		service(implicit, ecdsaName, "options = NO_TICKET\nsessionCacheSize = 1\nprotocol = proxy\nconnect = "+s.sink) +
		service(implicitRS, rsaName, "options = NO_TICKET\nprotocol = proxy\nconnect = "+s.sink) +
		service(resuming, ecdsaName, "protocol = proxy\nconnect = "+s.sink) +
		service(withTLS, ecdsaName, "options = NO_TICKET\nprotocol = smtp\nconnect = "+s.plain)
	path, err := s.write("stunnel.conf", text)
	return []string{"stunnel4", path}, err
}
