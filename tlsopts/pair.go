package tlsopts

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrEncryptedKey is returned for a private key or PKCS #12 file that needs
	// a passphrase where none was given.
	ErrEncryptedKey = errors.New("the private key is encrypted and no passphrase was given: in a certificate folder, write it to a file \"passphrase\" beside the key; or remove it from the key with \"openssl pkey -in KEY -out NEWKEY\"")

	// ErrWrongPassphrase is returned for a private key or PKCS #12 file that
	// the passphrase does not open. Neither format tells a wrong passphrase
	// from a damaged file for certain.
	ErrWrongPassphrase = errors.New("the passphrase does not open the private key: it is that of another key, the file is damaged, or the key is neither RSA, ECDSA nor Ed25519")

	// ErrKeyMismatch is returned for a private key that no certificate is for,
	// as between the two writes of a renewal.
	ErrKeyMismatch = errors.New("the private key does not match the certificate")
)

// File is the content of a file with certificates, private keys or both.
type File struct {
	Name string // for errors; none names no file
	Data []byte // PEM, or a PKCS #12 file (.pfx, .p12) as it is
}

// ParsePair reads a certificate chain and its private key from PEM, and checks
// that they belong together. It is ParsePairs for two files without passphrase;
// of several pairs it returns the first.
func ParsePair(chainPEM, keyPEM []byte) (*tls.Certificate, error) {
	if err := checkPEM(chainPEM, "CERTIFICATE", "certificate"); err != nil {
		return nil, err
	}
	if err := checkPEM(keyPEM, "PRIVATE KEY", "private key"); err != nil {
		return nil, err
	}
	pairs, err := ParsePairs(nil, File{Data: chainPEM}, File{Data: keyPEM})
	if err != nil {
		return nil, err
	}
	return pairs[0], nil
}

// ParsePairs reads certificates and private keys from files and returns a pair
// for each key, in the order of the keys. A bundle is one file; a chain and a
// key in two files may come in either order.
//
// PEM may have text between its blocks. Keys are PKCS #8, PKCS #1 or SEC 1,
// encrypted with PBES2 (RFC 8018) or in the traditional way (RFC 1421), and of
// a type that is served: RSA of MinRSABits or more, ECDSA on P-256, P-384 or
// P-521, Ed25519. PKCS #12 may be of the modern kind (AES) or the old one (RC2,
// triple DES). A passphrase is used as it is, and not at all where none is
// needed; nil is none.
//
// A key's leaf is the first certificate with its public key. The chain that is
// served is the leaf, what issued it, what issued that, and so on; then the
// remaining CA certificates in the order of the files, such as those of
// cross-signed authorities. A root stays, as DANE-TA may need it (RFC 7671
// section 5.2.1); copies and other leaves do not. ChainNotes tells what is
// wrong with a chain. Leaf is set in each result.
//
// The error is ErrEncryptedKey, ErrWrongPassphrase or ErrKeyMismatch where it
// applies, wrapped. It has the file's name, and never key material or the
// passphrase.
func ParsePairs(passphrase []byte, files ...File) ([]*tls.Certificate, error) {
	var m material
	for _, file := range files {
		if err := m.add(file.Data, passphrase); err != nil {
			if file.Name != "" {
				err = fmt.Errorf("%s: %w", file.Name, err)
			}
			return nil, err
		}
	}
	return m.pairs()
}

// ParseKeys reads the private keys of a file as ParsePairs does, and wants at
// least one. It is for keys that have no certificate yet; certificates beside
// them mean nothing.
func ParseKeys(passphrase []byte, file File) ([]crypto.Signer, error) {
	var m material
	err := m.add(file.Data, passphrase)
	if err == nil && len(m.keys) == 0 {
		err = errors.New("no private key in the file")
	}
	if err != nil && file.Name != "" {
		err = fmt.Errorf("%s: %w", file.Name, err)
	}
	if err != nil {
		return nil, err
	}
	return m.keys, nil
}

// material is what the files hold, without copies.
type material struct {
	certs []*x509.Certificate
	keys  []crypto.Signer
}

const (
	// maxMaterial is the largest file that is parsed: encoding/pem and
	// crypto/x509 took quadratic time on some large input (GO-2025-4009,
	// GO-2025-4007). A chain with its key is a few kB.
	maxMaterial = 1 << 20
	// maxCertificates is how many may be in the files of one name. They are
	// compared with one another.
	maxCertificates = 64
	// maxKeys is how many may be in the files of one name: one for each type,
	// some twice. Each costs a key derivation if it is encrypted.
	maxKeys = 8
)

func (m *material) add(data, passphrase []byte) error {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("the file is empty")
	case len(data) > maxMaterial:
		return fmt.Errorf("the file is larger than %d bytes, which no chain or key is", maxMaterial)
	case bytes.Contains(data, pemBegin):
		return m.addPEM(data, passphrase)
	case data[0] == 0x30: // a DER sequence
		return m.addPKCS12(data, passphrase)
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return errors.New("the file is in UTF-16, as PowerShell writes it: save it as ASCII or UTF-8")
	}
	return errors.New("no PEM block in the file, and it is not PKCS #12 either")
}

func (m *material) addCertificate(cert *x509.Certificate) error {
	for _, other := range m.certs {
		if other.Equal(cert) {
			return nil
		}
	}
	if len(m.certs) == maxCertificates {
		return fmt.Errorf("more than %d certificates: keep the leaf and its intermediates", maxCertificates)
	}
	m.certs = append(m.certs, cert)
	return nil
}

func (m *material) addKey(key crypto.Signer) error {
	for _, other := range m.keys {
		if sameKey(other.Public(), key.Public()) {
			return nil
		}
	}
	if len(m.keys) == maxKeys {
		return fmt.Errorf("more than %d private keys: keep one for each key type", maxKeys)
	}
	m.keys = append(m.keys, key)
	return nil
}

// pairs finds the leaf and the chain of each key.
func (m *material) pairs() ([]*tls.Certificate, error) {
	switch {
	case len(m.keys) == 0:
		return nil, errors.New("no private key in the files")
	case len(m.certs) == 0:
		return nil, errors.New("no certificate in the files")
	}
	leaves := make([]*x509.Certificate, len(m.keys))
	for i, key := range m.keys {
		if leaves[i] = m.leaf(key); leaves[i] == nil {
			return nil, m.mismatch(key)
		}
	}
	var pairs []*tls.Certificate
	for i, chain := range chains(leaves, m.certs) {
		// The same, kept once: the garbage collector marks what is kept, for every
		// domain in memory.
		leaves[i].PublicKey = m.keys[i].Public()
		pair := &tls.Certificate{PrivateKey: m.keys[i], Leaf: leaves[i]}
		for _, cert := range chain {
			pair.Certificate = append(pair.Certificate, cert.Raw)
		}
		pairs = append(pairs, pair)
	}
	return pairs, nil
}

func (m *material) leaf(key crypto.Signer) *x509.Certificate {
	for _, cert := range m.certs {
		if sameKey(cert.PublicKey, key.Public()) {
			return cert
		}
	}
	return nil
}

func (m *material) mismatch(key crypto.Signer) error {
	names := make([]string, 0, len(m.certs))
	for _, cert := range m.certs[:min(len(m.certs), 4)] {
		names = append(names, fmt.Sprintf("%s (%s)", nameOf(cert), KeyName(cert.PublicKey)))
	}
	return fmt.Errorf("%w: the key is %s, of the %d certificates found none has its public key: %s",
		ErrKeyMismatch, KeyName(key.Public()), len(m.certs), strings.Join(names, ", "))
}

func sameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// checkPEM tells an empty or wholly different file from a damaged one, by the
// role that the file has.
func checkPEM(data []byte, suffix, what string) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return fmt.Errorf("the %s file is empty", what)
	}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return fmt.Errorf("no PEM block \"%s\" in the %s file", suffix, what)
		}
		if strings.HasSuffix(block.Type, suffix) {
			return nil
		}
	}
}
