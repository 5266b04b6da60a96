package config_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// environ is a part of an environment, with our prefix before each name.
func environ(t *testing.T, entries ...string) config.Environment {
	t.Helper()
	for i := range entries {
		entries[i] = config.Prefix + entries[i]
	}
	env, err := config.ParseEnvironment(append(entries, "PATH=/bin", "OTHER_SMTP_TLSPROXY_X=1"))
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func TestParseEnvironment(t *testing.T) {
	t.Parallel()
	links := []string{ // of services smtp-tlsproxy and smtp-tlsproxy-metrics
		"PORT=tcp://10.0.0.1:465", "PORT_465_TCP=tcp://10.0.0.1:465", "PORT_465_TCP_ADDR=10.0.0.1", "PORT_465_TCP_PORT=465", "PORT_465_TCP_PROTO=tcp",
		"SERVICE_HOST=10.0.0.1", "SERVICE_PORT=465", "SERVICE_PORT_SMTPS=465", "METRICS_SERVICE_HOST=10.0.0.2", "METRICS_PORT_9465_TCP=tcp://10.0.0.2:9465",
	}
	if env := environ(t, append(links, "BACKEND=", "CONFIG=/a")...); !maps.Equal(env, config.Environment{"CONFIG": "/a"}) || env.File() != "/a" || env.StandsAlone() {
		t.Errorf("got %v", env)
	}
	for entry, want := range map[string]string{
		"BACKENDS=a:1":       "SMTP_TLSPROXY_BACKENDS: this variable is not known: did you mean SMTP_TLSPROXY_BACKEND?",
		"ENTIRELY_ELSE=a":    "SMTP_TLSPROXY_ENTIRELY_ELSE: this variable is not known: the variables are SMTP_TLSPROXY_CONFIG, SMTP_TLSPROXY_BACKEND, ",
		"LOG_FILE_PORT_X=a:": "SMTP_TLSPROXY_LOG_FILE_PORT_X: this variable is not known",
	} {
		if _, err := config.ParseEnvironment([]string{config.Prefix + entry}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", entry, err, want)
		}
	}
}

// TestEnvironmentAlone: one variable is enough.
func TestEnvironmentAlone(t *testing.T) {
	t.Parallel()
	cfg, err := config.LoadWith("", environ(t, "BACKEND=postfix:10587"))
	if err != nil {
		t.Fatal(err)
	}
	b := cfg.Backends["mta"]
	if cfg.Certificates.Directory != "/certs" || len(cfg.Backends) != 1 || !slices.Equal(b.Addresses, []string{"postfix:10587"}) ||
		b.ClientInfo != config.ClientInfoProxyV2 || cfg.Admin.Address != "127.0.0.1:9465" {
		t.Errorf("got %+v, %+v", cfg, b)
	}
	var listeners []string
	for _, l := range cfg.Listeners {
		listeners = append(listeners, strings.Join([]string{l.Name, l.Address, string(l.Mode), string(l.STARTTLS), l.Backend}, " "))
	}
	if want := []string{"submissions :2465 implicit  mta", "submission :2587 starttls required mta", "mx :2525 starttls optional mta"}; !slices.Equal(listeners, want) {
		t.Errorf("listeners %q, want %q", listeners, want)
	}
	cfg, err = config.LoadWith("", environ(t, "BACKEND=a:25, unix:/run/b", "BACKEND_PRESET=haraka", "CERTIFICATES=/other", "DEFAULT_CERTIFICATE=mail.example.com",
		"LISTEN_SUBMISSIONS=off", "LISTEN_SUBMISSION=127.0.0.1:587", "ADMIN=:9465", "LOG_LEVEL=debug", "LOG_FORMAT=json"))
	if err != nil {
		t.Fatal(err)
	}
	if b := cfg.Backends["mta"]; cfg.Certificates.Directory != "/other" || cfg.Certificates.Default != "mail.example.com" || len(cfg.Listeners) != 2 ||
		cfg.Listeners[0].Address != "127.0.0.1:587" || cfg.Listeners[1].Address != ":2525" || !slices.Equal(b.Addresses, []string{"a:25", "unix:/run/b"}) ||
		b.ClientInfo != config.ClientInfoProxyV1 || cfg.Admin.Address != ":9465" || cfg.Log.Level >= 0 || cfg.Log.Format != "json" {
		t.Errorf("got %+v, %+v", cfg, b)
	}
}

// TestEnvironmentOverFile: the environment counts before the file, and changes
// what is there.
func TestEnvironmentOverFile(t *testing.T) {
	t.Parallel()
	cfg, err := config.LoadWith("testdata/good/minimal.yaml", environ(t, "BACKEND=other:25", "BACKEND_PRESET=postfix", "CERTIFICATES=/other",
		"DEFAULT_CERTIFICATE=other.example", "LISTEN_SUBMISSIONS=:2465", "ADMIN=off", "LOG_LEVEL=warn"))
	if err != nil {
		t.Fatal(err)
	}
	want := wantMinimal()
	want.Certificates.Directory, want.Certificates.Default = "/other", "other.example"
	want.Listeners[0].Address = ":2465"
	want.Backends["mta"].Addresses, want.Backends["mta"].Preset, want.Backends["mta"].MaxHeaderBytes = []string{"other:25"}, "postfix", 536
	want.Admin.Address, want.Log.Level = "off", 4
	expect(t, cfg, want)
}

func TestEnvironmentFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		file    string
		entries []string
		want    []string
	}{
		{"", nil, []string{"the file is empty"}},
		{"", []string{"BACKEND=postfix"}, []string{`SMTP_TLSPROXY_BACKEND: "postfix" is not an address: want host:port`}},
		{"", []string{"BACKEND=a:1", "BACKEND_PRESET=sendmail"}, []string{`SMTP_TLSPROXY_BACKEND_PRESET: "sendmail" is not a preset: want `}},
		{"", []string{"BACKEND=a:1", "LISTEN_SUBMISSION=:25"}, []string{"SMTP_TLSPROXY_LISTEN_SUBMISSION: a port 25 listener must not demand TLS"}},
		{"", []string{"BACKEND=a:1", "LISTEN_MX=2525", "LOG_LEVEL=loud"}, []string{`SMTP_TLSPROXY_LOG_LEVEL: "loud" is not a log level`, `SMTP_TLSPROXY_LISTEN_MX: "2525" is not an address`}},
		{"", []string{"BACKEND=a:1", "LISTEN_MX=off", "LISTEN_SUBMISSION=off", "LISTEN_SUBMISSIONS=off"}, []string{"listeners: at least one is needed"}},
		{"testdata/good/full.yaml", []string{"BACKEND=a:1", "BACKEND_PRESET=exim"}, []string{
			"SMTP_TLSPROXY_BACKEND: it is for the only backend, and the file has 3", "SMTP_TLSPROXY_BACKEND_PRESET: it is for the only backend"}},
		{"testdata/good/minimal.yaml", []string{"LISTEN_MX=:2525", "LISTEN_SUBMISSIONS=off"}, []string{
			`SMTP_TLSPROXY_LISTEN_MX: it changes the address of the file's listener "mx", which has to be there`, `SMTP_TLSPROXY_LISTEN_SUBMISSIONS: it changes `}},
	} {
		_, err := config.LoadWith(test.file, environ(t, test.entries...))
		if err == nil {
			t.Errorf("%q: no fault", test.entries)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: no fault %q in:\n%v", test.entries, want, err)
			}
		}
		if n := strings.Count(err.Error(), "\n") + 1; n != len(test.want) {
			t.Errorf("%q: %d faults, want %d:\n%v", test.entries, n, len(test.want), err)
		}
	}
}
