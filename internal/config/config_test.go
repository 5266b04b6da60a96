package config_test

import (
	"crypto/sha256"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// wantMinimal is the Config of testdata/good/minimal.yaml: all the defaults.
func wantMinimal() *config.Config {
	defaultTLS := config.TLS{
		Profile:          tlsopts.Intermediate,
		MinVersion:       tlsopts.TLS12,
		MaxVersion:       tlsopts.TLS13,
		HonorCipherOrder: tlsopts.ServerOrder,
		Curves:           tlsopts.CurvesAuto,
		ALPN:             tlsopts.ALPNStrict,
		UnknownSNI:       config.UnknownSNIFallback,
		Stapling:         config.StaplingAuto,
		ClientAuth:       config.ClientAuth{Mode: tlsopts.ClientAuthNone},
		SessionTickets:   config.SessionTickets{Rotate: 12 * time.Hour, Lifetime: 24 * time.Hour},
		HandshakeTimeout: 30 * time.Second,
	}
	return &config.Config{
		Certificates: config.Certificates{Directory: "/certs", Default: "mail.example.com", Cache: 4096, Rescan: time.Minute},
		TLS:          defaultTLS,
		Listeners: []config.Listener{
			{Name: "submissions", Address: ":465", Mode: config.ModeImplicitTLS, Backend: "mta", TLS: defaultTLS},
		},
		Backends: map[string]*config.Backend{"mta": {
			Addresses:      []string{"127.0.0.1:10025"},
			Preset:         config.PresetGeneric,
			ClientInfo:     config.ClientInfoProxyV2,
			ProxyTLVs:      []string{"ssl", "authority", "unique_id", "crc32c"},
			MaxHeaderBytes: 232,
			Balance:        config.LeastConnections,
			HealthCheck:    defaultHealthCheck,
			TLS:            config.BackendTLS{Mode: config.BackendTLSNone},
		}},
		Limits: config.Limits{
			Connections: 20000, ConnectionsPerClient: 200, HandshakeRate: 50, ConcurrentHandshakes: 256,
			PreTLSCommands: 100, PreTLSErrors: 20,
		},
		Timeouts: config.Timeouts{
			PreTLSIdle: 5 * time.Minute,
			RelayIdle:  11 * time.Minute,
			Connect:    10 * time.Second,
			Greeting:   5 * time.Minute,
			HalfClose:  30 * time.Second,
			Drain:      2 * time.Minute,
		},
		Log:     config.Log{Level: slog.LevelInfo, Format: "text"},
		Admin:   config.Admin{Address: "127.0.0.1:9465"},
		Process: config.Process{Landlock: true},
	}
}

var defaultHealthCheck = config.HealthCheck{Interval: 10 * time.Second, Timeout: 5 * time.Second, Rise: 2, Fall: 3}

func load(t *testing.T, file string) *config.Config {
	t.Helper()
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatalf("unexpected fault:\n%v", err)
	}
	return cfg
}

// expect compares group by group, which keeps a failure readable.
func expect(t *testing.T, got, want *config.Config) {
	t.Helper()
	g, w := reflect.ValueOf(*got), reflect.ValueOf(*want)
	for i := range g.NumField() {
		if !g.Type().Field(i).IsExported() {
			continue
		}
		if name := g.Type().Field(i).Name; name == "Backends" {
			for key, backend := range want.Backends {
				if !reflect.DeepEqual(got.Backends[key], backend) {
					t.Errorf("backend %s:\n got %+v\nwant %+v", key, got.Backends[key], backend)
				}
			}
		} else if !reflect.DeepEqual(g.Field(i).Interface(), w.Field(i).Interface()) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, g.Field(i), w.Field(i))
		}
	}
	if len(got.Backends) != len(want.Backends) {
		t.Errorf("%d backends, want %d", len(got.Backends), len(want.Backends))
	}
}

func TestEveryGoodFileLoads(t *testing.T) {
	t.Parallel()
	for _, file := range glob(t, "testdata/good/*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			load(t, file)
		})
	}
}

func TestShortestFileGetsTheDefaults(t *testing.T) {
	t.Parallel()
	expect(t, load(t, "testdata/good/minimal.yaml"), wantMinimal())
}

func TestNullIsTheSameAsNotWritten(t *testing.T) {
	t.Parallel()
	expect(t, load(t, "testdata/good/null-is-not-set.yaml"), wantMinimal())
}

func TestEveryKeyIsRead(t *testing.T) {
	t.Parallel()
	const nothing = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	pins := []tlsopts.Pin{sha256.Sum256(nil)}
	if pins[0].String() != nothing {
		t.Fatalf("the pin is %s", pins[0])
	}
	legacy := config.TLS{
		Profile:          tlsopts.Intermediate,
		MinVersion:       tlsopts.TLS10,
		MaxVersion:       tlsopts.TLS12,
		Ciphers:          "ECDHE+AESGCM:ECDHE+AES",
		HonorCipherOrder: tlsopts.ClientOrder,
		Curves:           "x25519:prime256v1",
		ALPN:             tlsopts.ALPNOff,
		UnknownSNI:       config.UnknownSNIReject,
		Stapling:         config.StaplingOff,
		ClientAuth:       config.ClientAuth{Mode: tlsopts.ClientAuthRequire, CA: "testdata/good/clients.pem", Pins: pins},
		SessionTickets: config.SessionTickets{
			Enabled: true, SecretFile: "testdata/good/secrets", Rotate: time.Hour, Lifetime: 2 * time.Hour, Context: "mail",
		},
		HandshakeTimeout: 90 * time.Second,
		KeyLogFile:       "/tmp/keys",
	}
	merged := legacy
	merged.MaxVersion = tlsopts.TLS13
	expect(t, load(t, "testdata/good/full.yaml"), &config.Config{
		Certificates: config.Certificates{Directory: "testdata/good/certs", Default: "2026", Cache: 7, Rescan: 90 * time.Second},
		TLS:          legacy,
		Listeners: []config.Listener{
			{
				Name: "submissions", Address: "[::1]:465", Mode: config.ModeImplicitTLS, Backend: "mta",
				TLS: config.TLS{
					Profile:          tlsopts.Modern,
					MinVersion:       tlsopts.TLS13,
					MaxVersion:       tlsopts.TLS13,
					HonorCipherOrder: tlsopts.ServerOrder,
					Curves:           tlsopts.CurvesAuto,
					ALPN:             "smtp,lmtp",
					UnknownSNI:       config.UnknownSNIFallback,
					Stapling:         config.StaplingAuto,
					ClientAuth:       config.ClientAuth{Mode: tlsopts.ClientAuthRequest, CA: "testdata/good/clients.pem", Pins: pins},
					SessionTickets:   config.SessionTickets{SecretFile: "testdata/good/secrets", Rotate: time.Hour, Lifetime: 2 * time.Hour, Context: "mail"},
					HandshakeTimeout: 10 * time.Second,
					KeyLogFile:       "/tmp/keys",
				},
			},
			{
				Name: "submission", Address: "localhost:587", Mode: config.ModeSTARTTLS, STARTTLS: config.STARTTLSRequired,
				Backend: "old-mta", Hostname: "mail.example.com", GreetDelay: 6 * time.Second, TLS: merged,
				ProxyProtocol: config.ProxyProtocol{Trusted: []config.Range{
					{Prefix: netip.MustParsePrefix("10.0.0.0/8")}, {Prefix: netip.MustParsePrefix("192.0.2.7/32")},
					{Prefix: netip.MustParsePrefix("2001:db8::/32")}, {Prefix: netip.MustParsePrefix("fd00::1/128")},
				}},
			},
			{
				Name: "mx", Address: "localhost:2525", Mode: config.ModeSTARTTLS, STARTTLS: config.STARTTLSOptional,
				Backend: "mta", TLS: legacy,
			},
		},
		Backends: map[string]*config.Backend{
			"mta": {
				Addresses:      []string{"unix:/run/mta.sock", "[2001:db8::1]:25", "mta_1.example.com.:25"},
				Preset:         "dovecot",
				ClientInfo:     config.ClientInfoProxyV2,
				ProxyTLVs:      []string{"alpn"},
				MaxHeaderBytes: 4096,
				TraceHeader:    true,
				Balance:        config.ClientHash,
				HealthCheck:    config.HealthCheck{Interval: time.Second, Timeout: 200 * time.Millisecond, Rise: 1, Fall: 100},
				TLS: config.BackendTLS{
					Mode: config.BackendTLSSTARTTLS, ServerName: "mta.internal", CA: "testdata/good/backends.pem", Pins: pins,
					Certificate: "testdata/good/proxy.pem", Key: "/keys/proxy.key",
				},
			},
			"old-mta": {
				Addresses: []string{"192.0.2.1:25"}, Preset: config.PresetGeneric, ClientInfo: config.ClientInfoProxyV1, Balance: config.RoundRobin,
				HealthCheck: config.HealthCheck{Interval: 10 * time.Second, Timeout: 5 * time.Second, Rise: 2, Fall: 1},
				TLS:         config.BackendTLS{Mode: config.BackendTLSNone},
			},
			"exchange": {
				Addresses: []string{"exchange.internal:25", "exchange.internal:2525"}, Preset: config.PresetGeneric,
				ClientInfo: config.ClientInfoNone, AllowUnknownClients: true, Balance: config.LeastConnections, HealthCheck: defaultHealthCheck,
				TLS: config.BackendTLS{Mode: config.BackendTLSImplicit, ServerName: "exchange.internal"},
			},
		},
		Routes: []config.Route{
			{ServerNames: []string{"mail.customer.example", "*.customer.example"}, Backend: "exchange"},
			{ServerNames: []string{"_.old.example"}, Backend: "old-mta"},
		},
		Limits: config.Limits{
			Connections: 1_000_000, ConnectionsPerClient: 1, HandshakeRate: 2, ConcurrentHandshakes: 3,
			PreTLSCommands: 1, PreTLSErrors: 100000,
		},
		Timeouts: config.Timeouts{
			PreTLSIdle: time.Second,
			RelayIdle:  10 * time.Minute,
			Connect:    2 * time.Second,
			Greeting:   3 * time.Second,
			HalfClose:  4 * time.Second,
			Drain:      5 * time.Millisecond,
		},
		Log:     config.Log{Level: slog.LevelDebug, Format: "json"},
		Admin:   config.Admin{Address: "[::]:9465", Pprof: true, ReadyNeedsBackend: true},
		Process: config.Process{User: "993:994"},
	})
}

// TestPresets: a preset stands for how its server is told of clients, and gives
// way to what the file says.
func TestPresets(t *testing.T) {
	t.Parallel()
	const v1, v2 = config.ClientInfoProxyV1, config.ClientInfoProxyV2
	for keys, want := range map[string]struct {
		info  config.ClientInfo
		tlvs  int
		bytes int
	}{
		"preset: generic":                                {v2, 4, 232},
		"preset: postfix":                                {v2, 4, 536},
		"preset: exim":                                   {v2, 4, 232},
		"preset: dovecot":                                {v2, 4, 1500},
		"preset: opensmtpd":                              {v2, 4, 4096},
		"preset: stalwart":                               {v2, 4, 536},
		"preset: haraka":                                 {v1, 0, 0},
		"preset: smtp-server":                            {v1, 0, 0},
		"preset: chasquid":                               {v1, 0, 0},
		"preset: postfix, max_header_bytes: 200":         {v2, 4, 200},
		"preset: postfix, client_info: proxy-v1":         {v1, 0, 0},
		"preset: postfix, client_info: xclient":          {config.ClientInfoXCLIENT, 0, 0},
		"preset: haraka, client_info: proxy-v2":          {v2, 4, 232},
		"client_info: none":                              {config.ClientInfoNone, 0, 0},
		"preset: dovecot, proxy_tlvs: [ssl]":             {v2, 1, 1500},
		"client_info: none, allow_unknown_clients: true": {config.ClientInfoNone, 0, 0},
	} {
		text := `{certificates: {directory: /certs}, listeners: [{name: a, address: "127.0.0.1:465", mode: implicit}], backends: {mta: {addresses: ["127.0.0.1:25"], ` + keys + "}}}"
		cfg, err := config.Parse("preset.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", keys, err)
			continue
		}
		if b := cfg.Backends["mta"]; b.ClientInfo != want.info || len(b.ProxyTLVs) != want.tlvs || b.MaxHeaderBytes != want.bytes {
			t.Errorf("%s: %s, %q and %d bytes, want %+v", keys, b.ClientInfo, b.ProxyTLVs, b.MaxHeaderBytes, want)
		}
	}
}

func TestEmptyTLVListIsKept(t *testing.T) {
	t.Parallel()
	tlvs := load(t, "testdata/good/free-ports.yaml").Backends["mta"].ProxyTLVs
	if tlvs == nil || len(tlvs) != 0 {
		t.Errorf("got %#v, want an empty list that is not nil", tlvs)
	}
}

func TestAdminListenerCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	if got := load(t, "testdata/good/same-port-on-two-addresses.yaml").Admin.Address; got != config.AdminOff {
		t.Errorf("admin.address is %q, want %q", got, config.AdminOff)
	}
}

// TestSTARTTLSDefaultDependsOnThePort: port 25 must serve clients without TLS,
// and no other has to.
func TestSTARTTLSDefaultDependsOnThePort(t *testing.T) {
	t.Parallel()
	for i, want := range []config.STARTTLS{config.STARTTLSOptional, config.STARTTLSOptional, config.STARTTLSRequired, ""} {
		if l := load(t, "testdata/good/starttls.yaml").Listeners[i]; l.STARTTLS != want {
			t.Errorf("listener %s has %q, want %q", l.Name, l.STARTTLS, want)
		}
	}
}

// yaml.v3 is archived: a swap must touch one file.
func TestYAMLIsImportedInOneFile(t *testing.T) {
	t.Parallel()
	imports := regexp.MustCompile(`(?m)^\s*(import )?"gopkg\.in/yaml`)
	var found []string
	for _, file := range glob(t, "*.go") {
		if imports.Match(read(t, file)) {
			found = append(found, file)
		}
	}
	if got := strings.Join(found, " "); got != "decode.go" {
		t.Errorf("yaml is imported in %s, want decode.go only", got)
	}
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no file matches %s (%v)", pattern, err)
	}
	return files
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFaultFoundLaterHasItsPlace(t *testing.T) {
	t.Parallel()
	cfg := load(t, "testdata/good/full.yaml")
	for _, test := range []struct {
		name  string
		field any
		want  string
	}{
		{"set", &cfg.Listeners[0].Address, "address"},
		{"of a list", &cfg.Backends["mta"].Addresses[0], "unix:/run/mta.sock"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fault := cfg.FaultAt(test.field, "in use")
			lines := strings.Split(string(read(t, "testdata/good/full.yaml")), "\n")
			if fault.Line < 1 || !strings.Contains(lines[fault.Line-1], test.want) {
				t.Errorf("the fault stands at line %d, want that of %s", fault.Line, test.want)
			}
			if want := "testdata/good/full.yaml:"; !strings.HasPrefix(fault.String(), want) || !strings.HasSuffix(fault.String(), ": in use") {
				t.Errorf("fault %q", fault)
			}
		})
	}
}
