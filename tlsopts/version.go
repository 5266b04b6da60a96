package tlsopts

import (
	"crypto/tls"
	"fmt"
)

// Version is a TLS protocol version, with the numbers of crypto/tls. The zero
// value means "not set": the profile decides.
type Version uint16

// The versions that can be named. TLS 1.0 and 1.1 are deprecated (RFC 8996)
// and are used only when they are named.
const (
	TLS10 Version = tls.VersionTLS10
	TLS11 Version = tls.VersionTLS11
	TLS12 Version = tls.VersionTLS12
	TLS13 Version = tls.VersionTLS13
)

var versionNames = map[Version]string{TLS10: "TLSv1", TLS11: "TLSv1.1", TLS12: "TLSv1.2", TLS13: "TLSv1.3"}

// String gives the version as OpenSSL, Node.js and the PROXY protocol spell
// it ("TLSv1.3"), and "" for the zero value.
func (v Version) String() string {
	if v == 0 {
		return ""
	}
	if name, ok := versionNames[v]; ok {
		return name
	}
	return fmt.Sprintf("0x%04x", uint16(v))
}

// check tells whether v can be named. The zero value is none.
func (v Version) check() error {
	if v == 0 || versionNames[v] != "" {
		return nil
	}
	return fmt.Errorf("%s is not a TLS version: want TLS10, TLS11, TLS12 or TLS13", v)
}

// UnmarshalText reads one of TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3.
func (v *Version) UnmarshalText(text []byte) error {
	for version, name := range versionNames {
		if name == string(text) {
			*v = version
			return nil
		}
	}
	return fmt.Errorf("%q is not a TLS version: want TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3", text)
}
