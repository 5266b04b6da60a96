package tlsopts

import (
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/youmark/pkcs8"
)

const (
	// maxIterations bounds the work of one key derivation: a few times the
	// 1,300,000 that OWASP asks for with PBKDF2 and SHA-1, a second or two.
	maxIterations = 4_000_000
	// maxScryptMemory bounds 128*N*r (RFC 7914 section 5). OpenSSL refuses
	// more than 32 MiB itself.
	maxScryptMemory = 64 << 20
	maxScryptTimes  = 16 // p
)

var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
	oidHMACSHA1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
)

// cbcBlockSizes are the ciphers that can be read, by their object identifier.
var cbcBlockSizes = map[string]int{
	"2.16.840.1.101.3.4.1.2":  16, // AES-128-CBC
	"2.16.840.1.101.3.4.1.22": 16, // AES-192-CBC
	"2.16.840.1.101.3.4.1.42": 16, // AES-256-CBC
	"1.2.840.113549.3.7":      8,  // DES-EDE3-CBC
}

// encryptedKey is EncryptedPrivateKeyInfo (RFC 5958 section 3).
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// pbes2 is PBES2-params (RFC 8018 appendix A.4).
type pbes2 struct {
	KDF    pkix.AlgorithmIdentifier
	Cipher pkix.AlgorithmIdentifier
}

// pbkdf2 is PBKDF2-params (RFC 8018 appendix A.2).
type pbkdf2 struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// scrypt is scrypt-params (RFC 7914 section 7.1).
type scrypt struct {
	Salt      []byte
	N, R, P   int
	KeyLength int `asn1:"optional"`
}

// decryptPKCS8 reads an encrypted PKCS #8 key.
func decryptPKCS8(der, passphrase []byte) (crypto.Signer, error) {
	if len(passphrase) == 0 {
		return nil, ErrEncryptedKey
	}
	if err := checkPKCS8(der); err != nil {
		return nil, fmt.Errorf("the private key's encryption: %w; encrypt it anew with \"openssl pkcs8 -topk8 -v2 aes-256-cbc\"", err)
	}
	key, err := pkcs8.ParsePKCS8PrivateKey(der, passphrase)
	if err != nil {
		return nil, ErrWrongPassphrase
	}
	return checkKey(key)
}

// checkPKCS8 passes what package pkcs8 reads rightly. That package panics on
// a vector or ciphertext of the wrong length, takes AES-GCM for CBC, misses
// the hash function after a key length, and derives for as long as a file asks.
func checkPKCS8(der []byte) error {
	errDamaged := errors.New("the parameters are damaged")
	var key encryptedKey
	if rest, err := asn1.Unmarshal(der, &key); err != nil || len(rest) > 0 {
		return errDamaged
	}
	if !key.Algorithm.Algorithm.Equal(oidPBES2) {
		return fmt.Errorf("the scheme %s is not supported", key.Algorithm.Algorithm)
	}
	var params pbes2
	if _, err := asn1.Unmarshal(key.Algorithm.Parameters.FullBytes, &params); err != nil {
		return errDamaged
	}
	size, ok := cbcBlockSizes[params.Cipher.Algorithm.String()]
	if !ok {
		return fmt.Errorf("the cipher %s is not supported", params.Cipher.Algorithm)
	}
	var vector []byte
	if _, err := asn1.Unmarshal(params.Cipher.Parameters.FullBytes, &vector); err != nil || len(vector) != size {
		return errDamaged
	}
	if len(key.Data) == 0 || len(key.Data)%size != 0 {
		return errDamaged
	}
	return checkKDF(params.KDF)
}

func checkKDF(kdf pkix.AlgorithmIdentifier) error {
	switch {
	case kdf.Algorithm.Equal(oidPBKDF2):
		var p pbkdf2
		if _, err := asn1.Unmarshal(kdf.Parameters.FullBytes, &p); err != nil {
			return errors.New("the parameters of PBKDF2 are damaged")
		}
		if p.Iterations < 1 || p.Iterations > maxIterations {
			return fmt.Errorf("%d iterations of PBKDF2; %d is the limit", p.Iterations, maxIterations)
		}
		known := len(p.PRF.Algorithm) == 0 || p.PRF.Algorithm.Equal(oidHMACSHA1) || p.PRF.Algorithm.Equal(oidHMACSHA256)
		if !known || p.KeyLength != 0 {
			return fmt.Errorf("PBKDF2 with the hash function %s, key length %d is not supported", p.PRF.Algorithm, p.KeyLength)
		}
		return nil
	case kdf.Algorithm.Equal(oidScrypt):
		var p scrypt
		if _, err := asn1.Unmarshal(kdf.Parameters.FullBytes, &p); err != nil {
			return errors.New("the parameters of scrypt are damaged")
		}
		const most = maxScryptMemory / 128
		if p.N < 2 || p.R < 1 || p.P < 1 || p.P > maxScryptTimes || p.N > most || p.R > most/p.N {
			return fmt.Errorf("scrypt with N=%d, r=%d, p=%d takes more than %d MiB or %d rounds", p.N, p.R, p.P, maxScryptMemory>>20, maxScryptTimes)
		}
		return nil
	}
	return fmt.Errorf("the key derivation %s is not supported", kdf.Algorithm)
}
