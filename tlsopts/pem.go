package tlsopts

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

var (
	pemBegin = []byte("-----BEGIN ")
	utf8BOM  = []byte("\xef\xbb\xbf")
)

// addPEM adds all certificates and private keys of a PEM file. Blocks of other
// kinds, such as "EC PARAMETERS", mean nothing.
func (m *material) addPEM(data, passphrase []byte) error {
	data = bytes.TrimPrefix(data, utf8BOM) // Windows editors put it before the first block
	begun, whole, certs := countBegins(data), 0, 0
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		whole++
		if isCertificate(block) {
			certs++
		}
		if err := m.addBlock(block, passphrase); err != nil {
			if isCertificate(block) {
				return fmt.Errorf("certificate %d of the file: %w", certs, err)
			}
			return err
		}
	}
	// encoding/pem passes over a damaged block. In a file that is being
	// written that would be the end of the chain.
	if whole < begun {
		return fmt.Errorf("of %d PEM blocks only %d are whole: a line is damaged or indented, or the end is missing", begun, whole)
	}
	return nil
}

// countBegins counts the lines that begin a block.
func countBegins(data []byte) int {
	n := bytes.Count(data, append([]byte("\n"), pemBegin...))
	if bytes.HasPrefix(data, pemBegin) {
		n++
	}
	return max(n, 1) // indented: add has seen one somewhere
}

func isCertificate(block *pem.Block) bool {
	return block.Type == "CERTIFICATE" || block.Type == "X509 CERTIFICATE"
}

func (m *material) addBlock(block *pem.Block, passphrase []byte) error {
	switch {
	case isCertificate(block):
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		return m.addCertificate(cert)
	case block.Type == "TRUSTED CERTIFICATE":
		return errors.New("a PEM block \"TRUSTED CERTIFICATE\", which only OpenSSL reads: convert it with \"openssl x509 -in OLD -out NEW\"")
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		key, err := parseKeyBlock(block, passphrase)
		if err != nil {
			return err
		}
		return m.addKey(key)
	}
	return nil
}
