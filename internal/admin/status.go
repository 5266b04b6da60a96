package admin

import (
	"net/netip"
	"time"
)

// Status is what /status.json and the page at / show, the one as the other.
// All text in it is fit to be shown: what strangers sent was escaped and cut.
type Status struct {
	Version       string        `json:"version"`
	Host          string        `json:"host"` // the machine's name
	At            time.Time     `json:"at"`   // when this was true
	StartedAt     time.Time     `json:"started_at"`
	UptimeSeconds int64         `json:"uptime_seconds"`
	Ready         bool          `json:"ready"`
	Reason        string        `json:"reason,omitempty"` // why not
	Draining      bool          `json:"draining"`
	Configuration Configuration `json:"configuration"`
	Listeners     []Listener    `json:"listeners"`
	TLS           TLS           `json:"tls"`
	Backends      []Backend     `json:"backends"`
	Certificates  Certificates  `json:"certificates"`
	Failures      []Failure     `json:"handshake_failures"` // the newest, that first
}

// Configuration tells of the configuration in force.
type Configuration struct {
	InForceSince time.Time  `json:"in_force_since"`
	Refused      string     `json:"refused,omitempty"` // why the last reload changed nothing
	RefusedAt    *time.Time `json:"refused_at,omitempty"`
}

// Listener is one listener.
type Listener struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Mode     string `json:"mode"`               // implicit or starttls
	STARTTLS string `json:"starttls,omitempty"` // required or optional
	Backend  string `json:"backend"`
	// TrustedProxies are the load balancers of which a PROXY header is wanted.
	TrustedProxies      []netip.Prefix `json:"proxy_protocol_trusted,omitempty"`
	Connections         int            `json:"connections"` // that are open
	Handshakes          Handshakes     `json:"handshakes"`  // since the listener began
	LastMinute          Handshakes     `json:"last_minute"`
	HandshakesPerSecond float64        `json:"handshakes_per_second"` // over the last minute
}

// Handshakes is how many TLS handshakes ended.
type Handshakes struct {
	Count       uint64  `json:"count"`
	Failed      uint64  `json:"failed"` // of these
	FailedShare float64 `json:"failed_share"`
}

// HandshakesOf makes Handshakes of those that succeeded and those that failed.
func HandshakesOf(done, failed uint64) Handshakes {
	return Handshakes{Count: done + failed, Failed: failed, FailedShare: share(failed, done+failed)}
}

// plus adds two up.
func (h Handshakes) plus(other Handshakes) Handshakes {
	return HandshakesOf(h.Count-h.Failed+other.Count-other.Failed, h.Failed+other.Failed)
}

func share(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// TLS is what the handshakes that succeeded agreed on, all listeners together.
type TLS struct {
	Handshakes   uint64  `json:"handshakes"`
	Resumed      uint64  `json:"resumed"` // of these
	ResumedShare float64 `json:"resumed_share"`
	Versions     []Share `json:"versions"`
	Ciphers      []Share `json:"ciphers"`
	Groups       []Share `json:"groups"` // "none" where there was no key exchange with one
}

// Share is how many of the handshakes agreed on one thing.
type Share struct {
	Name  string  `json:"name"`
	Count uint64  `json:"count"`
	Share float64 `json:"share"`
}

// Backend is one backend.
type Backend struct {
	Name      string    `json:"name"`
	Hostname  string    `json:"hostname,omitempty"` // what the newest good health check heard
	Keywords  []string  `json:"keywords,omitempty"` // likewise: what EHLO offers before TLS
	Addresses []Address `json:"addresses"`
}

// Address is one address of a backend.
type Address struct {
	Address     string     `json:"address"`
	Host        string     `json:"host,omitempty"` // the name that it was looked up from
	State       string     `json:"state"`          // up, down or unknown
	Since       *time.Time `json:"since,omitempty"`
	Connections int        `json:"connections"`
	LastError   string     `json:"last_error,omitempty"` // stays when it is up again
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
}

// Certificates is the certificate directory.
type Certificates struct {
	Directory string  `json:"directory"`
	Default   string  `json:"default,omitempty"` // the folder for clients without a known name, as configured
	Fault     string  `json:"fault,omitempty"`   // why the folders can not be listed
	Indexed   int     `json:"indexed"`           // folders
	Loaded    int     `json:"loaded"`            // of these, in memory
	States    States  `json:"states"`
	Domains   Domains `json:"domains"`
}

// The states of a folder. Each has one: the first that fits.
const (
	Broken   = "broken"   // its files can not be served, or not be renewed
	Expired  = "expired"  //
	Expiring = "expiring" // within 30 days
	Valid    = "valid"    //
	Unread   = "unread"   // not looked at yet
)

// States is how many folders are in each state.
type States struct {
	Broken   int `json:"broken"`
	Expired  int `json:"expired"`
	Expiring int `json:"expiring"`
	Valid    int `json:"valid"`
	Unread   int `json:"unread"`
}

// Domains is one page of the folders that were asked for: the broken ones
// first, then by expiry, and those not looked at yet last.
type Domains struct {
	Query            // that was answered; the page is one that there is
	Matches int      `json:"matches"`
	Pages   int      `json:"pages"`
	List    []Domain `json:"list"`
}

// Domain is one folder.
type Domain struct {
	Name         string        `json:"name"`
	State        string        `json:"state"`
	NotAfter     *time.Time    `json:"not_after,omitempty"` // of the certificate that expires first
	Certificates []Certificate `json:"certificates,omitempty"`
	Fault        string        `json:"fault,omitempty"` // of broken ones; what was read before may still be served
}

// Certificate is a certificate of a folder.
type Certificate struct {
	KeyType  string    `json:"key_type"`
	NotAfter time.Time `json:"not_after"`
}

// Failure is a TLS handshake with a client that failed.
type Failure struct {
	At         time.Time      `json:"at"`
	Listener   string         `json:"listener"`
	Client     netip.AddrPort `json:"client"`
	ServerName string         `json:"server_name,omitempty"` // as the client sent it, escaped and cut
	Reason     string         `json:"reason"`                // as in tls_handshake_failures_total
	Alert      string         `json:"alert,omitempty"`       // the name of the client's, where it sent one
	Meaning    string         `json:"meaning"`               // of the reason, in words
	Mend       string         `json:"mend"`                  // what the operator can do
	Detail     string         `json:"detail"`                // what went wrong this time
}
