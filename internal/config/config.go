// Package config reads the configuration file and is the only reader of it.
//
// [Load] decodes strictly, fills in the defaults, and reports every fault at
// once with its place, so that what it returns can be used without a second
// look: no key is read and ignored, no string is interpreted later.
//
// It does not touch what the file names: whether the certificate directory
// exists and the backend answers is for the caller to find out. It logs
// nothing. A Config is plain data; nothing here keeps a hold on it.
package config

import (
	"log/slog"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// Config is one configuration file, complete and valid.
type Config struct {
	Certificates Certificates        `yaml:"certificates"`
	TLS          TLS                 `yaml:"tls"`
	Listeners    []Listener          `yaml:"listeners"`
	Backends     map[string]*Backend `yaml:"backends"`
	Routes       []Route             `yaml:"routes"`
	Limits       Limits              `yaml:"limits"`
	Timeouts     Timeouts            `yaml:"timeouts"`
	Log          Log                 `yaml:"log"`
	Admin        Admin               `yaml:"admin"`
	Process      Process             `yaml:"process"`

	source *source
}

// FaultAt makes a fault that was found later, such as an address in use, of
// the value that the file gives to a field; field is its address, such as
// &cfg.Log.Level. A field that the file does not set stands where it is
// inherited from, or else where the group begins that may hold it.
func (c *Config) FaultAt(field any, text string) Fault {
	return c.source.faultAt(c.source.origins[field], text)
}

// Certificates says where the certificates are.
type Certificates struct {
	// Directory holds one folder per server name. A relative one was resolved
	// against the folder of the configuration file.
	Directory string `yaml:"directory"`
	// Default is the folder served without SNI and for an unknown name; it may
	// be empty.
	Default string `yaml:"default"`
	// Cache is how many folders are kept loaded.
	Cache int `yaml:"cache"`
	// Rescan is the time between two full looks at Directory.
	Rescan time.Duration `yaml:"rescan"`
}

// TLS is how clients are met. In a Listener it is the effective value: its own
// keys over those of the file's tls block.
type TLS struct {
	Profile          tlsopts.Profile     `yaml:"profile"`
	MinVersion       tlsopts.Version     `yaml:"min_version"`
	MaxVersion       tlsopts.Version     `yaml:"max_version"`
	Ciphers          tlsopts.Ciphers     `yaml:"ciphers"` // empty: the profile's
	HonorCipherOrder tlsopts.CipherOrder `yaml:"honor_cipher_order"`
	Curves           tlsopts.Curves      `yaml:"curves"`
	ALPN             tlsopts.ALPN        `yaml:"alpn"`
	UnknownSNI       UnknownSNI          `yaml:"unknown_sni"`
	Stapling         Stapling            `yaml:"ocsp_stapling"`
	ClientAuth       ClientAuth          `yaml:"client_auth"`
	SessionTickets   SessionTickets      `yaml:"session_tickets"`
	HandshakeTimeout time.Duration       `yaml:"handshake_timeout"`
	// KeyLogFile gets the secrets of every session; empty is none.
	KeyLogFile string `yaml:"key_log_file"`
}

// Options are the part of t that package tlsopts resolves.
func (t TLS) Options() tlsopts.Options {
	return tlsopts.Options{
		Profile: t.Profile, MinVersion: t.MinVersion, MaxVersion: t.MaxVersion, Ciphers: t.Ciphers,
		HonorCipherOrder: t.HonorCipherOrder, Curves: t.Curves, ALPN: t.ALPN,
	}
}

// setOptions is the reverse of Options.
func (t *TLS) setOptions(o tlsopts.Options) {
	t.Profile, t.MinVersion, t.MaxVersion, t.Ciphers = o.Profile, o.MinVersion, o.MaxVersion, o.Ciphers
	t.HonorCipherOrder, t.Curves, t.ALPN = o.HonorCipherOrder, o.Curves, o.ALPN
}

// ClientAuth says which client certificates are asked for and accepted.
type ClientAuth struct {
	Mode tlsopts.ClientAuthMode `yaml:"mode"`
	// CA is a file; a relative one was resolved against the folder of the
	// configuration file.
	CA   string        `yaml:"ca"`
	Pins []tlsopts.Pin `yaml:"pins"`
}

// SessionTickets lets clients resume sessions.
type SessionTickets struct {
	Enabled bool `yaml:"enabled"`
	// SecretFile is shared by replicas; empty is a secret that lives as long
	// as the process.
	SecretFile string        `yaml:"secret_file"`
	Rotate     time.Duration `yaml:"rotate"`
	Lifetime   time.Duration `yaml:"lifetime"`
	Context    string        `yaml:"context"`
}

// Listener is one address that clients connect to.
type Listener struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"`
	Mode    Mode   `yaml:"mode"`
	// STARTTLS is empty unless Mode is ModeSTARTTLS.
	STARTTLS STARTTLS `yaml:"starttls"`
	// Backend is a key of Config.Backends.
	Backend string `yaml:"backend"`
	// Hostname is the name in the proxy's own greeting and EHLO reply. Empty
	// leaves the choice to the caller; it is always empty unless Mode is
	// ModeSTARTTLS.
	Hostname string `yaml:"hostname"`
	// GreetDelay is how long the proxy's own greeting waits for clients that
	// talk before it; 0 is not at all.
	GreetDelay    time.Duration `yaml:"greet_delay"`
	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol"`
	TLS           TLS           `yaml:"tls"`
}

// ProxyProtocol is for listeners behind load balancers, which say with a PROXY
// header who the client is.
type ProxyProtocol struct {
	// Trusted are the load balancers, who alone can connect then. Empty is no
	// PROXY protocol.
	Trusted []Range `yaml:"trusted"`
}

// Backend is one SMTP server behind the proxy.
type Backend struct {
	// Addresses are host:port or unix:/path.
	Addresses []string `yaml:"addresses"`
	// Preset has filled in what it stands for.
	Preset     Preset     `yaml:"preset"`
	ClientInfo ClientInfo `yaml:"client_info"`
	// AllowUnknownClients is with ClientInfoNone only.
	AllowUnknownClients bool `yaml:"allow_unknown_clients"`
	// ProxyTLVs is nil but with ClientInfoProxyV2.
	ProxyTLVs      []string `yaml:"proxy_tlvs"`
	MaxHeaderBytes int      `yaml:"max_header_bytes"`
	// TraceHeader puts a Received header with the TLS facts before each message.
	TraceHeader bool `yaml:"trace_header"`
	// Balance is how clients are shared out among Addresses.
	Balance     Balance     `yaml:"balance"`
	HealthCheck HealthCheck `yaml:"health_check"`
	TLS         BackendTLS  `yaml:"tls"`
}

// BackendTLS is TLS between the proxy and a backend.
type BackendTLS struct {
	Mode BackendTLSMode `yaml:"mode"`
	// ServerName is what the backend's certificate has to be for; empty only
	// where Pins alone decide, and with BackendTLSNone.
	ServerName string `yaml:"server_name"`
	// CA, Certificate and Key are files; relative ones were resolved against the
	// folder of the configuration file.
	CA          string        `yaml:"ca"`
	Pins        []tlsopts.Pin `yaml:"pins"`
	Certificate string        `yaml:"certificate"`
	Key         string        `yaml:"key"`
}

// Route leads the clients of some server names to a backend.
type Route struct {
	// ServerNames are lower-case A-labels; "*." and "_." before one stand for
	// one label.
	ServerNames []string `yaml:"server_names"`
	// Backend is a key of Config.Backends.
	Backend string `yaml:"backend"`
}

// HealthCheck says how the addresses of a backend are checked. All of it is
// above zero.
type HealthCheck struct {
	Interval time.Duration `yaml:"interval"`
	Timeout  time.Duration `yaml:"timeout"`
	Rise     int           `yaml:"rise"` // good checks that bring an address back
	Fall     int           `yaml:"fall"` // bad checks that take it out
}

// Limits bound what clients may take. All are above zero.
type Limits struct {
	Connections          int `yaml:"connections"`
	ConnectionsPerClient int `yaml:"connections_per_client"`
	HandshakeRate        int `yaml:"handshakes_per_second_per_client"`
	ConcurrentHandshakes int `yaml:"concurrent_handshakes"`
	// The others bound what a client may do before TLS.
	PreTLSCommands int `yaml:"pretls_commands"`
	PreTLSErrors   int `yaml:"pretls_errors"`
}

// Timeouts are all above zero.
type Timeouts struct {
	PreTLSIdle time.Duration `yaml:"pretls_idle"`
	RelayIdle  time.Duration `yaml:"relay_idle"`
	Connect    time.Duration `yaml:"connect"`
	Greeting   time.Duration `yaml:"greeting"`
	HalfClose  time.Duration `yaml:"half_close"`
	Drain      time.Duration `yaml:"drain"`
}

// Log says what is logged and how.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format string     `yaml:"format"` // text or json
}

// Admin is the listener for metrics and health.
type Admin struct {
	Address string `yaml:"address"` // AdminOff switches it off
	Pprof   bool   `yaml:"pprof"`
	// ReadyNeedsBackend makes readiness depend on the backends.
	ReadyNeedsBackend bool `yaml:"ready_needs_backend"`
}

// AdminOff is the Admin.Address that stands for no admin listener.
const AdminOff = "off"

// Process says what the program may do once it serves.
type Process struct {
	// User is a name, a uid or uid:gid; empty is who starts the program.
	User string `yaml:"user"`
	// Landlock restricts the program to the files that the configuration names.
	Landlock bool `yaml:"landlock"`
}
