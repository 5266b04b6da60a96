package tlsopts

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// MinRSABits is the shortest RSA key that is served (RFC 9325 section 4.2.1).
const MinRSABits = 2048

// ErrEncryptedKey is returned by ParsePair for a private key that needs a
// passphrase.
var ErrEncryptedKey = errors.New("the private key is encrypted; remove its passphrase with \"openssl pkey -in KEY -out KEY\"")

// ParsePair reads a certificate chain, leaf first, and its private key from
// PEM, and checks that they belong together. Leaf is set in the result. The
// errors never contain key material.
func ParsePair(chainPEM, keyPEM []byte) (*tls.Certificate, error) {
	if err := checkPEM(chainPEM, "CERTIFICATE", "certificate"); err != nil {
		return nil, err
	}
	if err := checkPEM(keyPEM, "PRIVATE KEY", "private key"); err != nil {
		return nil, err
	}
	if isEncrypted(keyPEM) {
		return nil, ErrEncryptedKey
	}
	pair, err := tls.X509KeyPair(chainPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	if key, ok := pair.Leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < MinRSABits {
		return nil, fmt.Errorf("the RSA key has %d bits; %d is the least that is served", key.N.BitLen(), MinRSABits)
	}
	return &pair, nil
}

// checkPEM tells an empty or wholly different file from a damaged one, which
// the message of crypto/tls does not.
func checkPEM(data []byte, suffix, what string) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return fmt.Errorf("the %s file is empty", what)
	}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return fmt.Errorf("no PEM block \"%s\" in the %s file", suffix, what)
		}
		if strings.HasSuffix(block.Type, suffix) || strings.HasSuffix(block.Type, "ENCRYPTED "+suffix) {
			return nil
		}
	}
}

// isEncrypted tells PKCS#8 (RFC 5958) and traditional (RFC 1421) encryption.
func isEncrypted(keyPEM []byte) bool {
	for rest := keyPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return false
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return true
		}
	}
}
