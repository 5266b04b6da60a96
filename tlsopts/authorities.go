package tlsopts

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Authorities are the certificates that a peer's certificate has to lead up
// to: of certificate authorities as a rule, or that of the peer itself.
type Authorities struct {
	pool   *x509.CertPool
	count  int
	digest [sha256.Size]byte // of what is in the pool
}

// ParseAuthorities reads certificates from PEM, of which there has to be at
// least one. Text between the blocks means nothing. A damaged block is an
// error, and so is a private key: an authority's has no business on a proxy.
func ParseAuthorities(data []byte) (*Authorities, error) {
	data = bytes.TrimPrefix(data, utf8BOM)
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("the file is empty")
	case len(data) > maxMaterial:
		return nil, fmt.Errorf("the file is larger than %d bytes", maxMaterial)
	case !bytes.Contains(data, pemBegin):
		return nil, errors.New("no PEM block in the file: convert DER with \"openssl x509 -inform DER -in OLD -out NEW\"")
	}
	a := &Authorities{pool: x509.NewCertPool()}
	begun, whole := countBegins(data), 0
	var sums [][sha256.Size]byte
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		whole++
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return nil, errors.New("a private key among the authorities' certificates: take it out, and keep it elsewhere")
		}
		if !isCertificate(block) {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the file: %w", len(sums)+1, err)
		}
		a.pool.AddCert(cert)
		sums = append(sums, sha256.Sum256(cert.Raw))
	}
	switch {
	case whole < begun:
		return nil, fmt.Errorf("of %d PEM blocks only %d are whole: a line is damaged or indented, or the end is missing", begun, whole)
	case len(sums) == 0:
		return nil, errors.New("no certificate in the file")
	}
	slices.SortFunc(sums, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	sums = slices.Compact(sums)
	a.count = len(sums)
	for _, sum := range sums {
		a.digest = sha256.Sum256(append(a.digest[:], sum[:]...))
	}
	return a, nil
}

// Equal reports whether b has the same certificates; both may be nil.
func (a *Authorities) Equal(b *Authorities) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.digest == b.digest
}

// Pool has the certificates; it must not be changed.
func (a *Authorities) Pool() *x509.CertPool { return a.pool }

// Len is the number of certificates, without copies.
func (a *Authorities) Len() int { return a.count }
