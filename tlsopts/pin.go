package tlsopts

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Pin is the SHA-256 digest of a public key as it stands in a certificate, its
// SubjectPublicKeyInfo (RFC 7469 section 2.4). It survives a renewal that keeps
// the key. As text it is "sha256/" and 44 characters of base64.
type Pin [sha256.Size]byte

// ErrPinMismatch is returned from a handshake whose peer has none of the
// pinned keys.
var ErrPinMismatch = errors.New("the peer's public key is none of those pinned")

const pinPrefix = "sha256/"

// PinOf is the pin of a certificate's key.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// PinOfKey is the pin that certificates of a public key have.
func PinOfKey(key crypto.PublicKey) (Pin, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return Pin{}, err
	}
	return sha256.Sum256(der), nil
}

// String gives the form that UnmarshalText reads.
func (p Pin) String() string { return pinPrefix + base64.StdEncoding.EncodeToString(p[:]) }

// MarshalText gives the form that UnmarshalText reads.
func (p Pin) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads "sha256/BASE64=", and nothing that merely resembles it.
func (p *Pin) UnmarshalText(text []byte) error {
	encoded, ok := strings.CutPrefix(string(text), pinPrefix)
	if !ok {
		return pinError(text, pinForm(string(text)))
	}
	if len(encoded) == 1+base64.StdEncoding.EncodedLen(len(p)) && encoded[0] == '/' { // a slash may begin base64, too
		return pinError(text, "it has two slashes, as curl wants them")
	}
	digest, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") { // encoding/base64 passes over those
		return pinError(text, "what follows \"sha256/\" is not base64 with its padding")
	}
	if len(digest) != len(p) {
		return pinError(text, fmt.Sprintf("it has %d bytes in place of 32", len(digest)))
	}
	copy(p[:], digest)
	return nil
}

func pinError(text []byte, fault string) error {
	return fmt.Errorf("%.100q is not a pin: %s; want sha256/ and the base64 of the key's digest, as \"openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | openssl base64\" prints it", text, fault)
}

// pinForm tells which of the other forms of a pin text has.
func pinForm(text string) string {
	digits := strings.ReplaceAll(text, ":", "")
	if _, err := hex.DecodeString(digits); err == nil && len(digits) == 2*sha256.Size {
		return "it is in hexadecimal"
	}
	switch {
	case strings.HasPrefix(text, "pin-sha256"):
		return "it is in the form of an HTTP header"
	case strings.HasPrefix(text, "sha1/"):
		return "SHA-1 is not safe"
	}
	return "it does not begin with \"sha256/\""
}

// pinned reports whether one of certs has a pinned key.
func pinned(pins []Pin, certs []*x509.Certificate) bool {
	return slices.ContainsFunc(certs, func(cert *x509.Certificate) bool {
		return slices.Contains(pins, PinOf(cert))
	})
}

// pinnedChain reports whether one of the verified chains has a pinned key.
func pinnedChain(pins []Pin, chains [][]*x509.Certificate) bool {
	return slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool {
		return pinned(pins, chain)
	})
}
