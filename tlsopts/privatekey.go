package tlsopts

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// MinRSABits is the shortest RSA key that is served (RFC 9325 section 4.2.1).
const MinRSABits = 2048

// errKeyFormat has no cause on purpose: what parsers say of a key may have a
// part of it.
var errKeyFormat = errors.New("the private key is damaged, or of a kind that is not served: want RSA, ECDSA on P-256, P-384 or P-521, or Ed25519, in PKCS #8, PKCS #1 or SEC 1")

// parseKeyBlock reads a private key of any format.
func parseKeyBlock(block *pem.Block, passphrase []byte) (crypto.Signer, error) {
	switch block.Type {
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return decryptTraditional(block, passphrase)
		}
		return parseKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return decryptPKCS8(block.Bytes, passphrase)
	case "OPENSSH PRIVATE KEY":
		return nil, errors.New("the private key is in OpenSSH's format: convert it with \"ssh-keygen -p -m PEM -f KEY\"")
	}
	return nil, fmt.Errorf("a PEM block %.40q, which is no kind of key that is served: want RSA, ECDSA or Ed25519", block.Type)
}

// parseKey does not rely on the name of the PEM block, which is often wrong.
func parseKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return checkKey(key)
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return checkKey(key)
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return checkKey(key)
	}
	return nil, errKeyFormat
}

// checkKey refuses keys that are too weak to serve or that TLS does not know.
func checkKey(key any) (crypto.Signer, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < MinRSABits {
			return nil, fmt.Errorf("the RSA key has %d bits; %d is the least that is served", bits, MinRSABits)
		}
		return key, nil
	case *ecdsa.PrivateKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return key, nil
		}
		return nil, fmt.Errorf("an ECDSA key on the curve %s: P-256, P-384 and P-521 are served", key.Curve.Params().Name)
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, errKeyFormat
}

// KeyName names a public key as operators do: RSA 2048, ECDSA P-256, Ed25519.
func KeyName(public crypto.PublicKey) string {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "of another type"
}

// decryptTraditional reads the encryption of RFC 1421 section 4.6.1.3, as
// "openssl rsa -aes256 -traditional" and OpenSSL before 1.0.0 write it.
func decryptTraditional(block *pem.Block, passphrase []byte) (crypto.Signer, error) {
	if len(passphrase) == 0 {
		return nil, ErrEncryptedKey
	}
	//lint:ignore SA1019 the format has no check of its integrity, but operators have such keys, and nothing else in the standard library reads them
	der, err := x509.DecryptPEMBlock(block, passphrase)
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrWrongPassphrase
	}
	if err != nil {
		return nil, errors.New("the private key's DEK-Info line is damaged or names an unknown cipher: encrypt it anew with \"openssl pkcs8 -topk8 -v2 aes-256-cbc\"")
	}
	key, err := parseKey(der)
	if errors.Is(err, errKeyFormat) { // one wrong passphrase in 256 gives sound padding
		return nil, ErrWrongPassphrase
	}
	return key, err
}
