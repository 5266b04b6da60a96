package main

import (
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/freeport"
)

// TestCheckFindsBadInput spoils a good site in one way each; check must say
// where it is and what to do, and serve must not start from what is fatal.
func TestCheckFindsBadInput(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, s *site)
		want  []string // on one line each
		serve string   // what serve says; empty where it starts all the same
	}{
		{"unknown key", func(t *testing.T, s *site) {
			s.write(t, strings.Replace(s.yaml(), "mode: implicit", "moed: implicit", 1))
		}, []string{`config.yaml:7:5: unknown key "moed": did you mean "mode"?`}, `did you mean "mode"?`},
		{"bad duration", func(t *testing.T, s *site) {
			s.write(t, strings.Replace(s.yaml(), "drain: 10s", "drain: 10", 1))
		}, []string{"config.yaml:18:10: 10 is not a duration: write a number with its unit, such as 30s"}, "write a number with its unit"},
		{"missing directory", func(t *testing.T, s *site) {
			s.write(t, strings.Replace(s.yaml(), "directory: certs", "directory: /does/not/exist", 1))
		}, []string{"config.yaml:2:14: certificate directory /does/not/exist: no such file or directory"}, "/does/not/exist"},
		{"key of another certificate", func(t *testing.T, s *site) {
			copyFile(t, filepath.Join(s.certs(), "a.example", "key.pem"), filepath.Join(s.certs(), "b.example", "key.pem"))
		}, []string{"certs/b.example: cert.pem and key.pem: "}, ""},
		{"key of another certificate in the default", func(t *testing.T, s *site) {
			copyFile(t, filepath.Join(s.certs(), "b.example", "key.pem"), filepath.Join(s.certs(), "a.example", "key.pem"))
		}, []string{"certs/a.example: cert.pem and key.pem: ", `config.yaml:3:12: the default certificate "a.example" is not among`},
			"default certificate: "},
		{"encrypted key without passphrase", func(t *testing.T, s *site) {
			key := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("not to be read without its passphrase")})
			if err := os.WriteFile(filepath.Join(s.certs(), "b.example", "key.pem"), key, 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"certs/b.example: cert.pem and key.pem: the private key is encrypted"}, ""},
		{"folder that verifies clients by nothing", func(t *testing.T, s *site) {
			if err := os.WriteFile(filepath.Join(s.certs(), "b.example", "tls.yaml"), []byte("client_auth: {mode: require}"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"certs/b.example/tls.yaml: with listener submissions: client_auth: the mode require has nothing to verify by"}, ""},
		{"address in use", func(t *testing.T, s *site) {
			listener, err := net.Listen("tcp", s.submission)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { listener.Close() })
		}, []string{`: listener submission: address 127.0.0.1:`, "address already in use; another program has it: \"ss -ltnp sport = :"},
			"address already in use; another program has it"},
		{"backend down", func(t *testing.T, s *site) {
			s.backend = freeport.Loopback(t)
			s.write(t, s.yaml())
		}, []string{"config.yaml:14:16: backend mta: dial tcp 127.0.0.1:", "connection refused"}, ""},
		{"missing default", func(t *testing.T, s *site) {
			s.write(t, strings.Replace(s.yaml(), "default: a.example", "default: z.example", 1))
		}, []string{`config.yaml:3:12: the default certificate "z.example" is not among the folders`}, "no such folder with a server name; there are: a.example b.example"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			test.spoil(t, s)
			code, stdout, stderr := call(t, "check", "--config", s.file)
			if code != exitFault || stderr != "" {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in:\n%s", want, stdout)
				}
			}
			if test.serve == "" {
				startServe(t, s)
				return
			}
			code, _, stderr = call(t, "serve", "--config", s.file)
			if code != exitFault || !strings.Contains(stderr, test.serve) {
				t.Errorf("serve: exit code %d, stderr:\n%s", code, stderr)
			}
		})
	}
}

func TestCheckOfflineTriesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	listener, err := net.Listen("tcp", s.submission)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s.backend = freeport.Loopback(t)
	s.write(t, s.yaml())
	if code, stdout, stderr := call(t, "check", "--offline", "--config", s.file); code != exitFine {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

func TestCheckSummary(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.issue(t, "*.w.example", devcert.Leaf{Names: []string{"*.w.example", "w.example", "x.w.example", "y.w.example"}, Key: devcert.RSA2048, Lifetime: 1000 * time.Hour})
	s.issue(t, "c.example", devcert.Leaf{Names: []string{"other.example"}, Key: devcert.Ed25519})
	code, stdout, stderr := call(t, "check", "--config", s.file)
	if code != exitFine || stderr != "" {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, want := range []string{
		"/c.example/cert.pem: the certificate does not cover the folder's name c.example: its names are other.example",
		"submissions  " + s.submissions + "  implicit            TLSv1.2 to TLSv1.3  mta",
		"submission   " + s.submission + "  starttls, required  TLSv1.2 to TLSv1.3  mta",
		"mta      " + s.backend + "  proxy-v2",
		"*.w.example  *.w.example w.example x.w.example and 1 more  RSA 2048     ",
		"a.example    a.example                                     ECDSA P-256  ",
		"c.example    other.example                                 Ed25519      ",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in:\n%s", want, stdout)
		}
	}
}

// TestCheckBesideARunningProxy: the addresses are taken, but by ourselves.
func TestCheckBesideARunningProxy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	startServe(t, s)
	if code, stdout, stderr := call(t, "check", "--config", s.file); code != exitFine {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDefaultHasNoPlace: a warning names the line that it comes from, and none
// where the file says nothing.
func TestDefaultHasNoPlace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ limits, want string }{
		{"", "text"},
		{"limits: {}\n", "text"},
		{"limits: {pretls_commands: 50}\n", "text"},
		{"limits: {connections: 20000}\n", "config.yaml:19:23: text"},
		{"limits:\n  connections: 20000\n", "config.yaml:20:16: text"},
	} {
		s := newSite(t)
		s.write(t, s.yaml()+test.limits)
		cfg, err := config.Load(s.file)
		if err != nil {
			t.Fatal(err)
		}
		c := &check{config: cfg}
		if got := c.placed(&cfg.Limits.Connections, &cfg.Limits, "text"); filepath.Base(got) != test.want {
			t.Errorf("%q: got %q, want %q", test.limits, got, test.want)
		}
	}
}
