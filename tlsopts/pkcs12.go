package tlsopts

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"
)

// addPKCS12 adds the key and the certificates of a PKCS #12 file.
func (m *material) addPKCS12(der, passphrase []byte) error {
	if err := checkIterations(der, 0); err != nil {
		return err
	}
	key, leaf, others, err := pkcs12.DecodeChain(der, string(passphrase))
	if err != nil && len(passphrase) > 0 {
		// Given but not needed: the file may have the empty passphrase or, what
		// is not the same, none at all.
		if k, l, o, again := pkcs12.DecodeChain(der, ""); again == nil {
			key, leaf, others, err = k, l, o, nil
		}
	}
	if err != nil {
		return explainPKCS12(der, passphrase, err)
	}
	signer, err := checkKey(key)
	if err != nil {
		return err
	}
	for _, cert := range append([]*x509.Certificate{leaf}, others...) {
		if err := m.addCertificate(cert); err != nil {
			return err
		}
	}
	return m.addKey(signer)
}

const rewritePKCS12 = "write it anew with \"openssl pkcs12 -in OLD -nodes -out PEM\" and \"openssl pkcs12 -export -in PEM -out NEW\", or serve the PEM file"

// explainPKCS12 says what to do. Other errors of package pkcs12 are not
// passed on: they may tell of what was decrypted.
func explainPKCS12(der, passphrase []byte, err error) error {
	if errors.Is(err, pkcs12.ErrIncorrectPassword) || errors.Is(err, pkcs12.ErrDecryption) {
		if len(passphrase) == 0 {
			return ErrEncryptedKey
		}
		return ErrWrongPassphrase
	}
	if _, err := x509.ParseCertificate(der); err == nil {
		return errors.New("a certificate in DER, without a key: convert it with \"openssl x509 -inform DER -in OLD -out NEW.pem\"")
	}
	if _, err := parseKey(der); err == nil {
		return errors.New("a private key in DER: convert it with \"openssl pkey -inform DER -in OLD -out NEW.pem\"")
	}
	if missing, ok := errors.AsType[pkcs12.NotImplementedError](err); ok {
		return fmt.Errorf("%w: %s", missing, rewritePKCS12)
	}
	return errors.New("the PKCS #12 file is damaged, has no or several keys, or is in BER, as old Java and browsers write it: " + rewritePKCS12)
}

// maxNesting is deeper than the parameters of a key derivation lie.
const maxNesting = 24

// checkIterations refuses a file that asks for key derivations without end.
// In all the forms that PKCS #12 knows (RFC 7292 section 4 and appendix C,
// RFC 8018 appendix A) the count is the INTEGER that follows the salt, an OCTET
// STRING, and nothing else is an INTEGER in such a place. What is encrypted is
// not looked into; a passphrase had to be right before it counts.
func checkIterations(der []byte, depth int) error {
	if depth > maxNesting {
		return nil
	}
	for afterSalt := false; len(der) > 0; {
		var value asn1.RawValue
		rest, err := asn1.Unmarshal(der, &value)
		if err != nil {
			return nil // no DER: contents, not structure
		}
		universal := value.Class == asn1.ClassUniversal
		if afterSalt && universal && value.Tag == asn1.TagInteger {
			var n int
			if _, err := asn1.Unmarshal(value.FullBytes, &n); err != nil || n < 0 || n > maxIterations {
				return fmt.Errorf("the PKCS #12 file asks for more than %d iterations: %s", maxIterations, rewritePKCS12)
			}
		}
		afterSalt = universal && value.Tag == asn1.TagOctetString
		if value.IsCompound || afterSalt {
			if err := checkIterations(value.Bytes, depth+1); err != nil {
				return err
			}
		}
		der = rest
	}
	return nil
}
