package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// listenAddress reads the address of a listener. Every form of "all
// interfaces" gives the same result, because net.Listen treats them alike.
func listenAddress(text string) (netip.AddrPort, error) {
	host, port, err := splitAddress(text, 0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch host {
	case "":
		host = "::"
	case "localhost":
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: the host to listen on is an IP address, localhost, or nothing for all interfaces", text)
	}
	if ip = ip.Unmap(); ip.IsUnspecified() {
		ip = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(ip, port), nil
}

// maxSocketPath is what fits into sun_path on Linux, with its NUL.
const maxSocketPath = 107

// checkBackendAddress tells what is wrong with host:port or unix:/path.
func checkBackendAddress(text string) error {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		switch {
		case !filepath.IsAbs(path):
			return fmt.Errorf("%q: the path of a socket must be absolute, such as unix:/run/mta.sock", text)
		case len(path) > maxSocketPath:
			return fmt.Errorf("%q: the path of a socket has at most %d bytes", text, maxSocketPath)
		}
		return nil
	}
	host, _, err := splitAddress(text, 1)
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(host); err != nil && !isName(dnsName, host) {
		return fmt.Errorf("%q: %q is neither an IP address nor a host name", text, host)
	}
	return nil
}

// splitAddress reads host:port with a decimal port of at least lowest.
func splitAddress(text string, lowest uint64) (host string, port uint16, err error) {
	host, digits, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not an address: want host:port, such as 127.0.0.1:465 or [::1]:465", text)
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n < lowest {
		return "", 0, fmt.Errorf("%q: a port is a number from %d to 65535", text, lowest)
	}
	return host, uint16(n), nil
}

var (
	// dnsName is what resolvers take: container networks have names with
	// underscores, and a final dot keeps search domains out.
	dnsName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?$`)
	// smtpDomain is the Domain of RFC 5321 section 4.1.2. It has no room for
	// what would break a reply line.
	smtpDomain = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)
	// simpleName is the name of a listener or backend, fit for logs and metrics.
	simpleName = regexp.MustCompile(`^[a-z0-9_-]{1,63}$`)
)

// isName matches a host name of at most 253 bytes (RFC 1035 section 2.3.4, as
// text).
func isName(form *regexp.Regexp, text string) bool {
	return len(strings.TrimSuffix(text, ".")) <= 253 && form.MatchString(text)
}

// SystemdName is the name in systemd:NAME, for sockets that systemd passes.
func SystemdName(address string) (name string, ok bool) {
	return strings.CutPrefix(address, "systemd:")
}

// checkSystemdName holds to what FileDescriptorName= takes.
func checkSystemdName(name string) error {
	if name == "" || len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
		return fmt.Errorf("%q is not the name of a socket: want that of FileDescriptorName= in its .socket unit, such as systemd:submissions", name)
	}
	return nil
}
