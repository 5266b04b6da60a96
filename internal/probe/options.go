package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Mode is when TLS begins.
type Mode string

// The modes.
const (
	Implicit Mode = "implicit" // with the first byte (RFC 8314 section 3)
	STARTTLS Mode = "starttls" // after the command (RFC 3207)
)

// DefaultTimeout bounds each step.
const DefaultTimeout = 10 * time.Second

// Options say what to probe, and how.
type Options struct {
	Host string // a name or an IP address
	Port string // "" is 465, or 587 with Mode STARTTLS
	Mode Mode   // "" is Implicit where the port ends in 465, else STARTTLS

	ServerName string   // sent as SNI, and wanted in the certificate; "" is Host
	ALPN       []string // offered; none is what mail clients offer
	EHLO       string   // domain name for EHLO; "" is the address literal of our end

	Roots     *x509.CertPool // nil is the system's
	RootsName string         // where Roots came from, for the report

	All       bool // probe every address, and not only the first that answers
	Versions  bool // try each TLS version on a connection of its own
	SNI       bool // see what is served without SNI and for an unknown name
	Injection bool // try CVE-2011-0411: a command behind STARTTLS in one packet

	Timeout time.Duration    // of a step; 0 is DefaultTimeout
	Now     func() time.Time // nil is time.Now
	// Begins is called as each step begins, with its name; nil is allowed.
	Begins func(step string)
	// LookUp finds the addresses of a host; nil asks the system's resolver.
	LookUp func(ctx context.Context, host string) ([]netip.Addr, error)
}

// ParseTarget splits HOST, HOST:PORT, or an IPv6 address with or without
// brackets; a port that is not there is "".
func ParseTarget(text string) (host, port string, err error) {
	host = text
	switch _, notIP := netip.ParseAddr(text); {
	case notIP == nil: // an IPv6 address without brackets has no port
	case strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]"):
		host = text[1 : len(text)-1]
		if _, err := netip.ParseAddr(host); err != nil {
			return "", "", fmt.Errorf("%q is no IP address in brackets: want [2001:db8::1] or [2001:db8::1]:465", text)
		}
	case strings.Contains(text, ":"):
		if host, port, err = net.SplitHostPort(text); err != nil {
			return "", "", fmt.Errorf("%q is not HOST:PORT: want mail.example.com:465, 192.0.2.1:465 or [2001:db8::1]:465", text)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return "", "", fmt.Errorf("%q is not a port: want a number from 1 to 65535", port)
		}
	}
	if err := CheckName(host); err != nil {
		return "", "", err
	}
	return host, port, nil
}

// CheckName tells whether a text can be the name or the address of a server.
func CheckName(name string) error {
	if name == "" {
		return errors.New("the host is missing: want HOST:PORT")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return nil
	}
	for _, r := range name {
		switch {
		case r > 0x7f:
			return fmt.Errorf("%q is not ASCII: give the A-label (xn--…) of the name", name)
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '-', r == '.', r == '_':
		default:
			return fmt.Errorf("%q is not a host name: %q can not stand in one", name, r)
		}
	}
	if len(name) > 253 {
		return fmt.Errorf("the host name has %d characters, at most 253 are possible", len(name))
	}
	return nil
}

// complete fills in what is not set, and says what was chosen.
func (o Options) complete() (Options, Target) {
	t := Target{Host: o.Host, ModeFrom: "flag", PortFrom: "given"}
	if o.Port == "" {
		o.Port, t.PortFrom = "465", "default"
		if o.Mode == STARTTLS {
			o.Port = "587"
		}
	}
	if o.Mode == "" {
		o.Mode, t.ModeFrom = STARTTLS, "port"
		if strings.HasSuffix(o.Port, "465") {
			o.Mode = Implicit
		}
	}
	if o.ServerName == "" {
		o.ServerName = o.Host
	}
	o.ServerName = strings.ToLower(strings.TrimSuffix(o.ServerName, "."))
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.LookUp == nil {
		o.LookUp = lookUp
	}
	if o.Roots == nil {
		o.RootsName = "the system's authorities"
	}
	t.Port, t.Mode, t.ServerName = o.Port, o.Mode, o.ServerName
	return o, t
}

func lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}
