package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs s on a loopback address until the test ends.
func serve(t *testing.T, s *Server) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutting down: %v", err)
			_ = s.Close()
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v", err)
		}
	})
	return l.Addr().String()
}

func get(t *testing.T, url string) (status int, body []byte) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body
}

func TestServerIsBounded(t *testing.T) {
	s := NewServer(Config{Gatherer: prometheus.NewRegistry()})
	for name, bound := range map[string]time.Duration{
		"ReadHeaderTimeout": s.http.ReadHeaderTimeout, "ReadTimeout": s.http.ReadTimeout,
		"WriteTimeout": s.http.WriteTimeout, "IdleTimeout": s.http.IdleTimeout,
	} {
		if bound <= 0 {
			t.Errorf("%s is not set", name)
		}
	}
	if s.http.WriteTimeout <= scrapeTimeout {
		t.Error("a scrape that times out could not be answered")
	}
}

func TestHeadersAreBounded(t *testing.T) {
	address := serve(t, NewServer(Config{Gatherer: prometheus.NewRegistry()}))
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	// net/http allows 4 kB above the bound.
	_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", maxHeaderBytes+8<<10)+"\r\n\r\n")
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 431" {
		t.Errorf("answer %q, %v", answer, err)
	}
}

// A profile runs for its seconds even where they are more than the timeouts.
func TestProfileOutlastsTheTimeouts(t *testing.T) {
	s := NewServer(Config{Gatherer: prometheus.NewRegistry(), Pprof: true})
	s.http.ReadTimeout, s.http.WriteTimeout = 200*time.Millisecond, 400*time.Millisecond
	address := serve(t, s)
	for _, path := range []string{"profile?seconds=1", "trace?seconds=1", "mutex?seconds=1"} {
		start := time.Now()
		status, body := get(t, "http://"+address+"/debug/pprof/"+path)
		if took := time.Since(start); status != http.StatusOK || len(body) == 0 || took < time.Second {
			t.Errorf("%s: status %d, %d bytes, after %s", path, status, len(body), took)
		}
	}
}

// Requirement 86: probes, and health checks that only connect, log nothing.
func TestR86_ProbesLogNothing(t *testing.T) {
	var log bytes.Buffer // read after the server is down
	t.Run("probes", func(t *testing.T) {
		address := serve(t, NewServer(Config{
			Gatherer: prometheus.NewRegistry(),
			Ready:    func() error { return errors.New("draining") },
			Logger:   slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		}))
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/favicon.ico"} {
			get(t, "http://"+address+path)
		}
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	})
	if log.Len() > 0 {
		t.Errorf("log: %s", log.String())
	}
}

// TestNamesOfOthers: a web site whose name leads to 127.0.0.1 gets nothing, and
// who asks for this machine does.
func TestNamesOfOthers(t *testing.T) {
	t.Parallel()
	address := serve(t, NewServer(Config{Gatherer: prometheus.NewRegistry()}))
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:" + port: 200, "proxy.localhost:1": 200, "127.0.0.1": 200, "[::1]:" + port: 200, "10.0.0.7:1": 200,
		"evil.example": 421, "evil.example:" + port: 421, "127.0.0.1.evil.example": 421, "localhost.evil.example:80": 421, "localhost:80:80": 400,
	} {
		request, err := http.NewRequest(http.MethodGet, "http://"+address+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if want == 400 && response.StatusCode >= 400 {
			continue
		}
		if response.StatusCode != want {
			t.Errorf("Host %s: %d, want %d", host, response.StatusCode, want)
		}
	}
}
