package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// certificates is a certificate folder, and the authority of all in it.
type certificates struct {
	ca   *devcert.CA
	dir  string
	file string // the authority's certificate, for clients to trust
}

// domains are the server names with a folder of their own.
var domains = []string{"a.example", "b.example", "c.example"}

// defaultDomain is the folder that serves clients without a known name.
const defaultDomain = "a.example"

// newCertificates makes the folders of the domains and of *.w.example.
func newCertificates(t testing.TB) *certificates {
	t.Helper()
	ca, err := devcert.NewCA("Authority of the tests")
	if err != nil {
		t.Fatal(err)
	}
	c := &certificates{ca: ca, dir: filepath.Join(t.TempDir(), "certs"), file: filepath.Join(t.TempDir(), "ca.pem")}
	writeFile(t, c.file, string(ca.PEM()))
	for _, name := range append([]string{"*.w.example"}, domains...) {
		if err := ca.WriteFolder(c.dir, name, devcert.Leaf{Names: []string{name}}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// setup is what a test wants of the proxy; the zero value of each field but
// certificates and backend means the usual.
type setup struct {
	certificates *certificates
	backend      string // address
	clientInfo   string // proxy-v2
	submissions  string // address of implicit TLS; a free one on 127.0.0.1
	submission   string // address of STARTTLS; likewise
	mx           string // address of optional STARTTLS; no such listener
	admin        string // likewise
	hostname     string // mail.a.example
	drain        string // 10s
	maxHeader    int    // the default
	trace        string // trace_header; the default
	tls          string // keys of the tls block, in flow style
	limits       string // keys of the limits block, likewise; as many handshakes as a test likes
	timeouts     string // further keys of the timeouts block, likewise
	pairs        []pair // further listeners
	trusted      string // proxy_protocol.trusted of the first two, in flow style; none
	rescan       string // 1m
	logFormat    string // json
	logLevel     string // info
	environment  []string
	process      string // keys of the process block; no such block
	dir          string // folder of the configuration file; a temporary one

	others      []string // further addresses of the backend
	backendKeys string   // further keys of the backend, in flow style
	backends    string   // a further item of the backends block, in flow style
	routes      string   // the list of routes, likewise
}

// manyHandshakes lets one address, which all clients of a test may have, come
// as often as it likes.
const manyHandshakes = "handshakes_per_second_per_client: 1000000"

// fewConnections need no more file descriptors than any machine gives.
const fewConnections = "connections: 400"

// complete fills in the zero fields.
func (s setup) complete(t testing.TB) setup {
	t.Helper()
	for _, address := range []*string{&s.submissions, &s.submission, &s.admin} {
		if *address == "" {
			*address = loopback(t)
		}
	}
	defaults := []struct {
		field *string
		value string
	}{{&s.clientInfo, "proxy-v2"}, {&s.hostname, "mail.a.example"}, {&s.drain, "10s"}, {&s.rescan, "1m"}, {&s.logFormat, "json"}, {&s.logLevel, "info"},
		{&s.limits, fewConnections + ", " + manyHandshakes}}
	for _, d := range defaults {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	s.pairs = completePairs(t, s.pairs)
	return s
}

// yaml is the configuration file.
func (s setup) yaml() string {
	header := "client_info: " + s.clientInfo
	if s.maxHeader != 0 {
		header += fmt.Sprintf(", max_header_bytes: %d", s.maxHeader)
	}
	addresses := fmt.Sprintf("%q", s.backend)
	for _, other := range s.others {
		addresses += fmt.Sprintf(", %q", other)
	}
	if s.backendKeys != "" {
		header += ", " + s.backendKeys
	}
	if s.trace != "" {
		header += ", trace_header: " + s.trace
	}
	mx := ""
	if s.mx != "" {
		mx = fmt.Sprintf("  - {name: mx, address: %q, mode: starttls, starttls: optional, backend: mta, hostname: %s}\n", s.mx, s.hostname)
	}
	balancer := ""
	if s.trusted != "" {
		balancer = fmt.Sprintf(", proxy_protocol: {trusted: [%s]}", s.trusted)
	}
	process := ""
	if s.process != "" {
		process = "process: {" + s.process + "}\n"
	}
	more := ""
	if s.backends != "" {
		more = "  " + s.backends + "\n"
	}
	if s.routes != "" {
		more += "routes: " + s.routes + "\n"
	}
	return fmt.Sprintf(`certificates: {directory: %q, default: %s, rescan: %s}
tls: {%s}
listeners:
  - {name: submissions, address: %q, mode: implicit, backend: mta%s}
  - {name: submission, address: %q, mode: starttls, starttls: required, backend: mta, hostname: %s%s}
%sbackends:
  mta: {addresses: [%s], %s}
%sadmin: {address: %q}
limits: {%s}
timeouts: {drain: %s, %s}
log: {level: %s, format: %s}
`, s.certificates.dir, defaultDomain, s.rescan, s.tls, s.submissions, balancer, s.submission, s.hostname, balancer, mx+yamlOfPairs(s.pairs), addresses,
		header, more, s.admin, s.limits, s.drain, s.timeouts, s.logLevel, s.logFormat) + process
}

// proxy is the program under test, serving.
type proxy struct {
	*process
	setup
	file    string // configuration
	stopped bool   // the test has seen it end
}

// startProxy serves until the end of the test. It must then end at SIGTERM
// with exit code 0 and without a data race reported.
func startProxy(t testing.TB, s setup) *proxy {
	t.Helper()
	s = s.complete(t)
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	return serve(t, s, s.yaml())
}

// serve serves a configuration file with that text. Of the setup only what
// the proxy is asked for counts.
func serve(t testing.TB, s setup, text string) *proxy {
	t.Helper()
	p := &proxy{setup: s, file: filepath.Join(s.dir, "config.yaml")}
	writeFile(t, p.file, text)
	p.process = startBinary(t, s.environment, "serve", "--config", p.file)
	t.Cleanup(func() { p.requireCleanEnd(t) })
	p.waitReady(t)
	return p
}

// startBinary starts the program under test with any command, and with
// variables besides those of the environment.
func startBinary(t testing.TB, environment []string, arguments ...string) *process {
	t.Helper()
	log := filepath.Join(t.TempDir(), "smtp-tlsproxy.log")
	command := exec.Command(builtBinary(t), arguments...)
	command.Env = append(os.Environ(), environment...)
	return startProcess(t, "smtp-tlsproxy "+arguments[0], log, command)
}

// requireCleanEnd ends the program as a supervisor does.
func (p *proxy) requireCleanEnd(t testing.TB) {
	t.Helper()
	if !p.stopped {
		select {
		case <-p.exited:
			t.Errorf("the proxy ended by itself: %v", p.err)
		default:
			p.signal(t, syscall.SIGTERM)
		}
		if code := p.waitExit(t, patience); code != 0 {
			t.Errorf("exit code %d at SIGTERM, want 0", code)
		}
	}
	for _, alarm := range []string{"WARNING: DATA RACE", "panic:", "goroutine "} {
		if line := lineWith(p.logged(), alarm); line != "" {
			t.Errorf("the log has: %s", line)
		}
	}
}

// waitReady waits until the proxy says that it serves.
func (p *proxy) waitReady(t testing.TB) {
	t.Helper()
	eventually(t, "the proxy is ready", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("the proxy ended at start: %v\n%s", p.err, p.logged())
		default:
		}
		code, _ := get("http://" + p.admin + "/readyz")
		return code == http.StatusOK
	})
}

// get fetches a page of the admin address; code 0 means that nobody answered.
func get(url string) (code int, body string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(data)
}

// metric is the value of the first sample that starts with the name (labels
// may follow in it), or "".
func (p *proxy) metric(t testing.TB, name string) string {
	t.Helper()
	_, body := get("http://" + p.admin + "/metrics")
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, name) {
			return line[strings.LastIndexByte(line, ' ')+1 : len(line)-1]
		}
	}
	return ""
}

// waitMetric waits until the sample of that name, labels and all, has the value.
func (p *proxy) waitMetric(t testing.TB, name, value string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s is %s", name, value), func() bool { return p.metric(t, name+" ") == value })
}

// sessionLine is the log line that the proxy writes for each session.
type sessionLine struct {
	Message    string `json:"msg"`
	ID         string
	Listener   string
	Client     string
	Balancer   string
	ServerName string `json:"server_name"`
	TLSVersion string `json:"tls_version"`
	Cipher     string
	Backend    string
	Outcome    string
	Error      string
}

// waitSession waits for the session line of the client with that address.
func (p *proxy) waitSession(t testing.TB, client string) sessionLine {
	t.Helper()
	var found sessionLine
	eventually(t, "the proxy logs the session of "+client, func() bool {
		for line := range strings.Lines(p.logged()) {
			var s sessionLine
			if json.Unmarshal([]byte(line), &s) == nil && s.Message == "session" && s.Client == client {
				found = s
				return true
			}
		}
		return false
	})
	return found
}

// ports are the listeners, as tests go through them: that with optional
// STARTTLS with it and without.
func (p *proxy) ports() []port {
	ports := []port{
		{name: "465", listener: "submissions", address: p.submissions, swaksTLS: "--tls-on-connect"},
		{name: "587", listener: "submission", address: p.submission, swaksTLS: "--tls", openssl: []string{"-starttls", "smtp"}},
	}
	if p.mx != "" {
		ports = append(ports, port{name: "25", listener: "mx", address: p.mx, swaksTLS: "--tls", openssl: []string{"-starttls", "smtp"}}, p.plain())
	}
	return ports
}

// plain is the listener with optional STARTTLS for clients that do without.
func (p *proxy) plain() port { return port{name: plainPort, listener: "mx", address: p.mx} }

const plainPort = "25 in plain text"

// port is a listener, and how the clients are told to use it.
type port struct {
	name     string // 465, 587, 25 or plainPort: how it begins
	listener string
	address  string
	swaksTLS string
	openssl  []string
}

// host is the address without its port.
func (p port) host(t testing.TB) string {
	t.Helper()
	host, _, err := net.SplitHostPort(p.address)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// runBinary runs the program under test to its end.
func runBinary(t testing.TB, arguments ...string) result {
	t.Helper()
	r := runProgram(t, builtBinary(t), arguments...)
	if strings.Contains(r.output, "DATA RACE") || strings.Contains(r.output, "panic:") {
		t.Errorf("%s:\n%s", r.command, indent(r.output))
	}
	return r
}

// rewrite replaces the configuration file and asks for a reload.
func (p *proxy) rewrite(t testing.TB, text string) {
	t.Helper()
	aside := p.file + ".new"
	writeFile(t, aside, text)
	if err := os.Rename(aside, p.file); err != nil {
		t.Fatal(err)
	}
	p.signal(t, syscall.SIGHUP)
}
