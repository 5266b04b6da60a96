package sni

import "strings"

const (
	// maxName is the longest name in text form: 255 octets on the wire
	// (RFC 1035 section 2.3.4), less the root label and one length octet.
	maxName = 253
	// maxLabel is the longest label (RFC 1035 section 2.3.4).
	maxLabel = 63
)

// ServerName returns raw in lower case if it is a host name as RFC 6066
// section 3 wants it in the server_name extension: A-labels of letters,
// digits, hyphens and, as names in the field have them, underscores; no
// trailing dot; no IP literal. Otherwise ok is false and name is empty.
//
// crypto/tls hands on whatever bytes the client sent ("../x", NUL, 60 kB), so
// every name from the network goes through here before anything else. A name
// that is lower case already costs no allocation.
func ServerName(raw string) (name string, ok bool) {
	if len(raw) > maxName {
		return "", false
	}
	var label string
	for rest, more := raw, true; more; {
		if label, rest, more = strings.Cut(rest, "."); !isLabel(label) {
			return "", false
		}
	}
	// No top-level domain is numeric (RFC 3696 section 2): this is an IPv4 address.
	if strings.Trim(label, "0123456789") == "" {
		return "", false
	}
	return strings.ToLower(raw), true
}

// isLabel reports whether label is one of RFC 1123 section 2.1, with "_".
func isLabel(label string) bool {
	if label == "" || len(label) > maxLabel || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		switch c := label[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
