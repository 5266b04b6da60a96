package probe

import (
	"slices"
	"time"
)

// Level is how bad something is.
type Level string

// The levels. A client of today refuses a server with a Fail, or it is open to
// attack. With a Warn some clients will, or soon.
const (
	OK   Level = "ok"
	Note Level = "note"
	Warn Level = "warn"
	Fail Level = "fail"
)

// The verdicts.
const (
	Accepted = "accepted" // by a mail client
	Warned   = "accepted with warnings"
	Refused  = "refused"
)

// Report is all that was found.
type Report struct {
	Target    Target    `json:"target"`
	Began     time.Time `json:"began"`
	Addresses []string  `json:"addresses"` // of the host, in the order in which they are tried
	LookUp    *Step     `json:"look_up"`   // null for an IP address
	Sessions  []Session `json:"sessions"`  // one for each address that was tried
	Findings  []Finding `json:"findings"`  // worst first
	Verdict   string    `json:"verdict"`   // accepted, accepted with warnings, refused
}

// Target is what was probed, and what was chosen.
type Target struct {
	Host       string `json:"host"`
	Port       string `json:"port"`
	PortFrom   string `json:"port_from"` // given or default
	Mode       Mode   `json:"mode"`      // implicit or starttls
	ModeFrom   string `json:"mode_from"` // flag or port
	ServerName string `json:"server_name"`
}

// Step is one of look-up, connect, greeting, EHLO, STARTTLS, handshake,
// certificate and QUIT. Its text is for people.
type Step struct {
	Name       string  `json:"name"`
	Outcome    Level   `json:"outcome"` // ok, warn or fail
	DurationMS float64 `json:"duration_ms"`
	Text       string  `json:"text"`
}

// Session is what was found at one address.
type Session struct {
	Address    string          `json:"address"`
	Steps      []Step          `json:"steps"`
	Greeting   *Reply          `json:"greeting"`
	EHLOPlain  *Reply          `json:"ehlo_before_tls"`
	TLS        *TLS            `json:"tls"`
	Chain      []Certificate   `json:"certificates"` // as sent, the leaf first
	Verified   *Verification   `json:"verification"`
	EHLOSecure *Reply          `json:"ehlo_under_tls"`
	Versions   []VersionTry    `json:"versions"`  // null unless asked for
	SNI        []ServerNameTry `json:"sni"`       // null unless asked for
	Injection  *InjectionTry   `json:"injection"` // null unless asked for
}

// Reply is what the server answered.
type Reply struct {
	Code  int      `json:"code"`
	Lines []string `json:"lines"` // without the code; of EHLO, the keywords follow the first
}

// TLS is what the handshake came to.
type TLS struct {
	Version                    string   `json:"version"` // TLSv1.3
	Cipher                     string   `json:"cipher"`  // as OpenSSL calls it
	Group                      string   `json:"group"`   // "" for RSA key exchange
	PostQuantum                bool     `json:"post_quantum"`
	ServerNameSent             string   `json:"server_name_sent"` // "" for none
	ALPNOffered                []string `json:"alpn_offered"`
	ALPN                       string   `json:"alpn"`
	SessionTicket              bool     `json:"session_ticket"`
	ClientCertificateRequested bool     `json:"client_certificate_requested"`
	OCSP                       OCSP     `json:"ocsp"`
}

// OCSP is the stapled response.
type OCSP struct {
	Stapled bool       `json:"stapled"`
	Good    bool       `json:"good"`
	Until   *time.Time `json:"until"`
	Text    string     `json:"text"` // why it is not good
}

// Certificate is one of the chain.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Names     []string  `json:"names"` // subject alternative names, at most 100
	NameCount int       `json:"name_count"`
	Key       string    `json:"key"` // RSA 2048, ECDSA P-256, Ed25519
	Signature string    `json:"signature"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	DaysLeft  int       `json:"days_left"`
	Serial    string    `json:"serial"`
	SHA256    string    `json:"sha256"`
	TLSA      string    `json:"tlsa"` // of its key: 3 1 1 for the leaf, 2 1 1 for an authority (RFC 6698)
}

// Verification is what a client makes of the chain.
type Verification struct {
	Verified bool     `json:"verified"` // chain, dates and name
	Roots    string   `json:"roots"`
	Path     []string `json:"path"` // subjects from the leaf to the root
}

// VersionTry is a handshake that offered one version.
type VersionTry struct {
	Version  string `json:"version"`
	Accepted bool   `json:"accepted"`
	Text     string `json:"text"` // the cipher, or why not
}

// ServerNameTry is a handshake with another server name.
type ServerNameTry struct {
	ServerName string   `json:"server_name"` // "" for none
	Accepted   bool     `json:"accepted"`
	Text       string   `json:"text"` // the subject, or why not
	Names      []string `json:"names"`
	Same       bool     `json:"same"` // the certificate of the session itself
}

// InjectionTry is a NOOP behind STARTTLS in one packet.
type InjectionTry struct {
	Accepted bool   `json:"accepted"` // the server answered it under TLS
	Text     string `json:"text"`
}

// Finding is something to know or to mend. The ids are listed in docs/probe.md
// and stay.
type Finding struct {
	Level     Level    `json:"level"` // fail, warn or note
	ID        string   `json:"id"`
	Text      string   `json:"text"`
	Mend      string   `json:"mend"`
	Addresses []string `json:"addresses"` // where it was found; empty for the host itself
}

// add takes a finding in, once for all addresses that have it.
func (r *Report) add(f Finding, address string) {
	i := slices.IndexFunc(r.Findings, func(g Finding) bool { return g.Level == f.Level && g.ID == f.ID && g.Text == f.Text })
	if i < 0 {
		i, f.Addresses = len(r.Findings), []string{}
		r.Findings = append(r.Findings, f)
	}
	if known := r.Findings[i].Addresses; address != "" && !slices.Contains(known, address) {
		r.Findings[i].Addresses = append(known, address)
	}
}

// weight orders findings and decides the verdict.
var weight = map[Level]int{Fail: 3, Warn: 2, Note: 1}

// conclude sorts the findings and gives the verdict.
func (r *Report) conclude() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return weight[b.Level] - weight[a.Level] })
	r.Verdict = Accepted
	if len(r.Findings) == 0 {
		return
	}
	switch r.Findings[0].Level {
	case Fail:
		r.Verdict = Refused
	case Warn:
		r.Verdict = Warned
	}
}
