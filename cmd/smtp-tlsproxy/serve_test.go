package main

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/demo"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/freeport"
)

// serving is a proxy that runs in the test's process.
type serving struct {
	*site
	log    *output
	stop   chan os.Signal
	reload chan os.Signal
	ended  chan error
}

// startServe serves a site until the end of the test, which it must meet with
// exit code 0.
func startServe(t *testing.T, s *site) *serving {
	t.Helper()
	r := &serving{site: s, log: new(output), stop: make(chan os.Signal, 2), reload: make(chan os.Signal, 1), ended: make(chan error, 1)}
	go func() {
		r.ended <- newInstance(newLogging(r.log)).serve(source{file: s.file}, keepPrivileges, r.stop, r.reload)
	}()
	t.Cleanup(func() {
		r.stop <- syscall.SIGTERM
		if err := <-r.ended; err != nil {
			t.Errorf("serve returned %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	eventually(t, "the proxy is ready", func() bool {
		code, _ := r.get("/readyz")
		return code == http.StatusOK
	})
	return r
}

func (r *serving) get(path string) (code int, body string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + r.admin + path)
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

func (r *serving) send(t *testing.T, name string) (tls.ConnectionState, error) {
	t.Helper()
	return demo.Send(r.submissions, false, &tls.Config{ServerName: name, RootCAs: r.ca.Pool()})
}

// waitLog waits for a line with all the fragments.
func (r *serving) waitLog(t *testing.T, fragments ...string) {
	t.Helper()
	eventually(t, "the log has "+strings.Join(fragments, " … "), func() bool {
		for line := range strings.Lines(r.log.String()) {
			all := true
			for _, fragment := range fragments {
				all = all && strings.Contains(line, fragment)
			}
			if all {
				return true
			}
		}
		return false
	})
}

func (r *serving) hup() { r.reload <- syscall.SIGHUP }

func TestServeTellsWhatIsInForce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.backend = freeport.Loopback(t)
	s.write(t, s.yaml())
	r := startServe(t, s)
	r.waitLog(t, "level=INFO", `msg="certificate loaded"`, "domain=a.example")
	r.waitLog(t, "listener=submission ", "address="+s.submission, "starttls=required", "min_version=TLSv1.2", "client_info=proxy-v2")
	r.waitLog(t, "level=WARN", "backend does not answer", "backend=mta", "connection refused")
	if code, body := r.get("/metrics"); code != http.StatusOK || !strings.Contains(body, "smtp_tlsproxy_certificates_indexed 2") {
		t.Errorf("/metrics: %d\n%s", code, body)
	}
}

// TestReadyNeedsBackend: /readyz says no while no address of a backend is up,
// and the reason; a reload sets it, and takes it back.
func TestReadyNeedsBackend(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	good := s.backend
	s.backend = freeport.Loopback(t)
	s.write(t, s.yaml())
	r := startServe(t, s) // ready without a backend
	const healthCheck = "\n    health_check: {interval: 100ms, rise: 1}"
	needing := func(backend string) string {
		s.backend = backend
		text := strings.Replace(s.yaml(), "admin:\n", "admin:\n  ready_needs_backend: true\n", 1)
		return strings.Replace(text, backend+`"]`, backend+`"]`+healthCheck, 1)
	}
	ready := func(code int, fragments ...string) {
		t.Helper()
		eventually(t, strings.Join(append([]string{"/readyz is as wanted:"}, fragments...), " "), func() bool {
			got, body := r.get("/readyz")
			for _, fragment := range fragments {
				if !strings.Contains(body, fragment) {
					return false
				}
			}
			return got == code
		})
	}
	r.write(t, needing(s.backend))
	r.hup()
	ready(http.StatusServiceUnavailable, "backend mta: no address is up: dial tcp "+s.backend, "connection refused")
	if code, _ := r.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	r.write(t, needing(good))
	r.hup()
	ready(http.StatusOK)
	r.waitLog(t, `msg="configuration reloaded"`)
}

// TestStatusTellsOfBackends: state and last error of each address.
func TestStatusTellsOfBackends(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dead := freeport.Loopback(t)
	s.write(t, strings.Replace(s.yaml(), `addresses: ["`, `addresses: ["`+dead+`", "`, 1))
	r := startServe(t, s)
	var got struct {
		Backends []struct {
			Name, Hostname string
			Keywords       []string
			Addresses      []struct {
				Address, State string
				LastError      string `json:"last_error"`
				Since          time.Time
			}
		}
	}
	eventually(t, "both addresses are checked", func() bool {
		_, body := r.get("/status.json")
		if err := json.Unmarshal([]byte(body), &got); err != nil || len(got.Backends) != 1 || len(got.Backends[0].Addresses) != 2 {
			t.Fatalf("%v in %s", err, body)
		}
		b := got.Backends[0]
		return b.Addresses[0].State == "down" && b.Addresses[1].State == "up"
	})
	b := got.Backends[0]
	if b.Name != "mta" || b.Hostname != "Hello" || !slices.Contains(b.Keywords, "8BITMIME") {
		t.Errorf("%+v", b)
	}
	if a := b.Addresses[0]; a.Address != dead || !strings.Contains(a.LastError, "connection refused") || a.Since.IsZero() {
		t.Errorf("%+v", a)
	}
	if a := b.Addresses[1]; a.Address != s.backend || a.LastError != "" || a.Since.IsZero() {
		t.Errorf("%+v", a)
	}
}

func TestReloadChangesWhatTheFileChanges(t *testing.T) {
	t.Parallel()
	r := startServe(t, newSite(t))
	old := *r.site
	r.admin, r.submissions = freeport.Loopback(t), freeport.Loopback(t)
	r.write(t, r.yaml()+"log: {level: debug, format: json}\n")
	r.hup()
	r.waitLog(t, `{"time":`, `"msg":"configuration reloaded"`)
	if _, err := r.send(t, "b.example"); err != nil {
		t.Errorf("at the new address: %v", err)
	}
	if code, body := r.get("/metrics"); code != http.StatusOK || !strings.Contains(body, `smtp_tlsproxy_config_reloads_total{result="success"} 2`) {
		t.Errorf("/metrics at the new address: %d\n%s", code, body)
	}
	if _, err := demo.Send(old.submissions, false, &tls.Config{ServerName: "b.example", RootCAs: r.ca.Pool()}); err == nil {
		t.Error("the old address still serves")
	}
	if _, err := http.Get("http://" + old.admin + "/healthz"); err == nil {
		t.Error("the old admin address still serves")
	}
}

// TestReloadIsAllOrNothing: each faulty file leaves everything as it was, and
// the log says why.
func TestReloadIsAllOrNothing(t *testing.T) {
	t.Parallel()
	r := startServe(t, newSite(t))
	before := r.yaml()
	other := strings.Replace(before, r.submission, freeport.Loopback(t), 1)
	for _, test := range []struct{ name, file, want string }{
		{"unknown key", before + "lgo: {}\n", `did you mean`},
		{"other certificates that are not there", strings.Replace(other, "directory: certs", "directory: nowhere", 1), "nowhere"},
		{"admin address in use", strings.Replace(other, r.admin, r.backend, 1), "admin: address"},
		{"listener address in use", strings.Replace(other, r.submissions, r.backend, 1), "listener submissions: address"},
	} {
		r.write(t, test.file)
		r.hup()
		r.waitLog(t, "level=ERROR", "the one before it stays in force", test.want)
		if _, err := r.send(t, "b.example"); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if _, err := demo.Send(r.submission, true, &tls.Config{ServerName: "a.example", RootCAs: r.ca.Pool()}); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	r.write(t, before)
	if code, body := r.get("/metrics"); code != http.StatusOK || !strings.Contains(body, "smtp_tlsproxy_config_last_reload_successful 0") {
		t.Errorf("/metrics: %d\n%s", code, body)
	}
}

// TestReloadTakesOtherCertificates moves to another directory; the series of
// the domains follow.
func TestReloadTakesOtherCertificates(t *testing.T) {
	t.Parallel()
	r := startServe(t, newSite(t))
	if _, err := r.send(t, "b.example"); err != nil {
		t.Fatal(err)
	}
	if err := r.ca.WriteFolder(r.dir+"/others", "c.example", devcert.Leaf{Names: []string{"c.example"}}); err != nil {
		t.Fatal(err)
	}
	r.write(t, strings.Replace(strings.Replace(r.yaml(), "directory: certs", "directory: others", 1), "default: a.example", "default: c.example", 1))
	r.hup()
	r.waitLog(t, `msg="configuration reloaded"`)
	if _, err := r.send(t, "c.example"); err != nil {
		t.Error(err)
	}
	if state, err := r.send(t, "b.example"); err == nil {
		t.Errorf("b.example is still served: %v", state.PeerCertificates[0].DNSNames)
	}
	_, body := r.get("/metrics")
	for _, want := range []string{`not_after_timestamp_seconds{domain="c.example"`, "smtp_tlsproxy_certificates_indexed 1", "smtp_tlsproxy_certificates_loaded 1"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if strings.Contains(body, `domain="b.example"`) || strings.Contains(body, `domain="a.example"`) {
		t.Error("the metrics have domains that are gone")
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	log, stop, reload, ended := new(output), make(chan os.Signal, 2), make(chan os.Signal, 1), make(chan error, 1)
	go func() {
		ended <- newInstance(newLogging(log)).serve(source{file: s.file}, keepPrivileges, stop, reload)
	}()
	r := &serving{site: s, log: log, stop: stop, reload: reload}
	eventually(t, "the proxy is ready", func() bool {
		code, _ := r.get("/readyz")
		return code == http.StatusOK
	})
	conn, err := tls.Dial("tcp", s.submissions, &tls.Config{ServerName: "a.example", RootCAs: s.ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "EHLO x\r\nMAIL FROM:<a@b.c>\r\n"); err != nil { // an open transaction holds the drain up
		t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	for seen := ""; !strings.Contains(seen, "250 2.0.0 Roger"); {
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatalf("%v after %q", err, seen)
		}
		seen += string(buffer[:n])
	}
	stop <- syscall.SIGTERM
	r.waitLog(t, "shutting down")
	if code, body := r.get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "shutting down") {
		t.Errorf("/readyz while draining: %d %s", code, body)
	}
	if _, body := r.get("/metrics"); !strings.Contains(body, "\nsmtp_tlsproxy_draining 1\n") {
		t.Error("the metrics do not tell of the drain")
	}
	reload <- syscall.SIGHUP // means nothing any more
	stop <- syscall.SIGTERM
	if err := <-ended; err != errCut {
		t.Errorf("serve returned %v, want %v", err, errCut)
	}
}
