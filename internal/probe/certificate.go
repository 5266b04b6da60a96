package probe

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

const (
	maxChain = 20  // certificates that are told of
	maxNames = 100 // names of one that are told of
)

// certificateOf tells of one certificate of the chain.
func certificateOf(cert *x509.Certificate, leaf bool, now time.Time) Certificate {
	whole, key := sha256.Sum256(cert.Raw), sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	usage := "2 1 1 "
	if leaf {
		usage = "3 1 1 "
	}
	all := namesOf(cert)
	return Certificate{
		Subject: nameOf(cert), Issuer: shown(cert.Issuer.String()), Names: all[:min(len(all), maxNames)], NameCount: len(all),
		Key: tlsopts.KeyName(cert.PublicKey), Signature: cert.SignatureAlgorithm.String(),
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(), DaysLeft: daysLeft(cert, now),
		Serial: fmt.Sprintf("%x", cert.SerialNumber), SHA256: hex.EncodeToString(whole[:]), TLSA: usage + hex.EncodeToString(key[:]),
	}
}

// daysLeft are whole days, negative where it expired.
func daysLeft(cert *x509.Certificate, now time.Time) int {
	return int(math.Floor(cert.NotAfter.Sub(now).Hours() / 24))
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 || n == -1 {
		return fmt.Sprintf("%d %s", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// nameOf names a certificate.
func nameOf(cert *x509.Certificate) string {
	if text := cert.Subject.String(); text != "" {
		return shown(text)
	}
	if names := namesOf(cert); len(names) > 0 {
		return names[0]
	}
	return "(no name)"
}

func namesOf(cert *x509.Certificate) []string {
	names := []string{}
	for _, name := range cert.DNSNames {
		names = append(names, shown(name))
	}
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func selfIssued(cert *x509.Certificate) bool { return bytes.Equal(cert.RawSubject, cert.RawIssuer) }

// issued tells whether the name and the key identifier of issuer are those that
// cert asks for (RFC 5280 section 4.2.1.1).
func issued(issuer, cert *x509.Certificate) bool {
	return bytes.Equal(issuer.RawSubject, cert.RawIssuer) &&
		(len(cert.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0 || bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId))
}

// pathOf leads from the leaf up through what was sent, in whatever order.
func pathOf(chain []*x509.Certificate) []*x509.Certificate {
	path := chain[:1:1]
	for {
		last := path[len(path)-1]
		next := slices.IndexFunc(chain, func(cert *x509.Certificate) bool {
			return issued(cert, last) && !slices.ContainsFunc(path, cert.Equal)
		})
		if next < 0 {
			return path
		}
		path = append(path, chain[next])
	}
}
