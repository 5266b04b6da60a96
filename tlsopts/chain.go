package tlsopts

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// chains gives each leaf its chain; see ParsePairs for the order.
func chains(leaves, all []*x509.Certificate) [][]*x509.Certificate {
	var paths [][]*x509.Certificate
	used := make(map[*x509.Certificate]bool)
	for _, leaf := range leaves {
		path := issuers(leaf, all)
		paths = append(paths, path)
		for _, cert := range path {
			used[cert] = true
		}
	}
	// What is no part of a path is kept: OpenSSL compares names more loosely
	// than byte by byte, and may find a use for it.
	for _, cert := range all {
		isLeaf := cert.Version == 3 && !cert.IsCA
		if used[cert] || isLeaf {
			continue
		}
		for i := range paths {
			paths[i] = append(paths[i], cert)
		}
	}
	return paths
}

// issuers returns leaf and the certificates that lead up from it.
func issuers(leaf *x509.Certificate, all []*x509.Certificate) []*x509.Certificate {
	path := []*x509.Certificate{leaf}
	for last := leaf; ; {
		next := slices.IndexFunc(all, func(cert *x509.Certificate) bool {
			return issued(cert, last) && !slices.Contains(path, cert)
		})
		if next < 0 {
			return path
		}
		last = all[next]
		path = append(path, last)
	}
}

// issued reports whether issuer's name and key identifier are those that cert
// asks for (RFC 5280 section 4.2.1.1).
func issued(issuer, cert *x509.Certificate) bool {
	if !bytes.Equal(issuer.RawSubject, cert.RawIssuer) {
		return false
	}
	return len(cert.AuthorityKeyId) == 0 || len(issuer.SubjectKeyId) == 0 ||
		bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId)
}

// ChainNotes tells what clients may stumble over in the chain of a pair,
// leaving the leaf itself aside: a missing intermediate, a gap or the wrong
// order, an intermediate out of its dates. A pair with notes can be served;
// clients that match the key alone (DANE-EE) or do not verify do not care.
func ChainNotes(pair *tls.Certificate) []string {
	var notes []string
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }

	var chain []*x509.Certificate
	for i, der := range pair.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			note("certificate %d of the chain cannot be read: %v", i+1, err)
			return notes
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return []string{"the chain is empty"}
	}
	// Public authorities name in the leaf where its issuer's certificate is to
	// be had; private ones that sign leaves with the root seldom do.
	leaf := chain[0]
	if len(chain) == 1 && len(leaf.IssuingCertificateURL) > 0 && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
		note("the chain has no intermediate certificate; many clients cannot verify it: append it after the leaf")
	}
	now := time.Now()
	for i, cert := range chain[1:] {
		before := chain[:i+1]
		if !slices.ContainsFunc(before, func(earlier *x509.Certificate) bool { return issued(cert, earlier) }) {
			note("certificate %d of the chain, %s, issued none before it: the one between is missing, the order is wrong, or it does not belong there", i+2, nameOf(cert))
		}
		if now.After(cert.NotAfter) {
			note("certificate %d of the chain, %s, expired at %s: replace it by the authority's present one", i+2, nameOf(cert), cert.NotAfter.UTC().Format(time.RFC3339))
		}
		if now.Before(cert.NotBefore) {
			note("certificate %d of the chain, %s, is not valid before %s", i+2, nameOf(cert), cert.NotBefore.UTC().Format(time.RFC3339))
		}
	}
	return notes
}

// nameOf names a certificate for messages, quoted and cut to a sane length.
func nameOf(cert *x509.Certificate) string {
	name := cert.Subject.CommonName
	if name == "" && len(cert.DNSNames) > 0 {
		name = cert.DNSNames[0]
	}
	if name == "" {
		name = cert.Subject.String()
	}
	return fmt.Sprintf("%.64q", name)
}
