package probe

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// soon is when an expiry becomes a warning: certbot and others renew at 30 days.
const soon = 14 * 24 * time.Hour

// judge verifies the certificates as a client does, and says in words what it
// would stumble over. All faults are told, not only the first.
func (s *session) judge() {
	for i, cert := range s.chain[:min(len(s.chain), maxChain)] {
		s.out.Chain = append(s.out.Chain, certificateOf(cert, i == 0, s.Now()))
	}
	s.step("certificate", func() (string, *Finding) {
		v := &Verification{Roots: s.RootsName, Path: []string{}}
		s.out.Verified = v
		faults := slices.Concat(s.dateFaults(), s.nameFaults(), s.strengthFaults())
		path, f := s.verify()
		// crypto/x509 takes no weak signature, and then knows no authority.
		if f != nil && !slices.ContainsFunc(faults, func(g Finding) bool { return g.ID == "signature_weak" }) {
			faults = append(faults, *f)
		}
		faults = append(faults, s.orderFaults(path != nil)...)
		for _, cert := range path {
			v.Path = append(v.Path, nameOf(cert))
		}
		for _, f := range faults {
			s.found(f)
		}
		worst := worstOf(faults)
		v.Verified = path != nil && (worst == nil || worst.Level != Fail)
		if worst != nil && worst.Level != Note {
			return worst.Text, worst
		}
		return fmt.Sprintf("verified for %s with %s, %s left", s.ServerName, s.RootsName, count(daysLeft(s.chain[0], s.Now()), "day")), nil
	})
}

// worstOf is the first of the worst, nil if there is none.
func worstOf(faults []Finding) (worst *Finding) {
	for i, f := range faults {
		if worst == nil || weight[f.Level] > weight[worst.Level] {
			worst = &faults[i]
		}
	}
	return worst
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func (s *session) dateFaults() []Finding {
	leaf, now := s.chain[0], s.Now()
	switch left := leaf.NotAfter.Sub(now); {
	case left < 0:
		return []Finding{{Level: Fail, ID: "expired", Text: "the certificate expired at " + date(leaf.NotAfter),
			Mend: "renew it, and have the server read the new one (a renewal that nobody reloaded looks like this)"}}
	case now.Before(leaf.NotBefore):
		return []Finding{{Level: Fail, ID: "not_yet_valid", Text: "the certificate is not valid before " + date(leaf.NotBefore), Mend: "look at the clock, of this machine and of the one that issued it"}}
	case left < soon:
		return []Finding{{Level: Warn, ID: "expires_soon", Text: fmt.Sprintf("the certificate expires in %s, at %s", count(daysLeft(leaf, now), "day"), date(leaf.NotAfter)),
			Mend: "look why it was not renewed: 30 days before is usual"}}
	}
	return nil
}

// namesTold is how many names of a certificate go into a sentence.
const namesTold = 5

func (s *session) nameFaults() []Finding {
	leaf := s.chain[0]
	if leaf.VerifyHostname(s.ServerName) == nil {
		return nil
	}
	all := namesOf(leaf)
	told := strings.Join(all[:min(len(all), namesTold)], ", ")
	if len(all) > namesTold {
		told += fmt.Sprintf(" and %d more", len(all)-namesTold)
	}
	f := Finding{Level: Fail, ID: "name", Text: fmt.Sprintf("the certificate is for %s, not for %s", told, s.ServerName),
		Mend: "get a certificate that has this name; behind smtp-tlsproxy: make a folder for it, as this may be the default certificate; or give the right name with --servername"}
	if len(all) == 0 {
		f.Text = "the certificate has no subject alternative name, and clients look at nothing else"
		f.Mend = "get one with the name as subject alternative name (DNS)"
	}
	return []Finding{f}
}

// strengthFaults finds keys and signatures that clients refuse. The signature of
// a self-signed certificate means nothing.
func (s *session) strengthFaults() (faults []Finding) {
	path := pathOf(s.chain)
	for i, cert := range path[:min(len(path), maxChain)] {
		what := "the certificate"
		if i > 0 {
			what = "the intermediate certificate " + nameOf(cert)
		}
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < tlsopts.MinRSABits {
			faults = append(faults, Finding{Level: Fail, ID: "key_short", Text: fmt.Sprintf("%s has an RSA key of only %d bits", what, key.N.BitLen()),
				Mend: fmt.Sprintf("make a new key: ECDSA P-256, or RSA of %d bits or more; OpenSSL refuses less at its usual security level", tlsopts.MinRSABits)})
		}
		switch cert.SignatureAlgorithm {
		case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
			if !selfIssued(cert) {
				faults = append(faults, Finding{Level: Fail, ID: "signature_weak", Text: fmt.Sprintf("%s is signed with %s, which clients refuse", what, cert.SignatureAlgorithm),
					Mend: "have it issued anew with SHA-256"})
			}
		}
	}
	return faults
}

// verify builds the chain up to a trusted root; path is nil where there is none.
// Dates of the leaf are told elsewhere and must not hide what else is wrong.
func (s *session) verify() (path []*x509.Certificate, f *Finding) {
	leaf, at := s.chain[0], s.Now()
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	options := x509.VerifyOptions{Roots: s.Roots, Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, cert := range s.chain[1:] {
		options.Intermediates.AddCert(cert)
	}
	paths, err := leaf.Verify(options)
	if err == nil {
		return paths[0], nil
	}
	fault := func(id, text, mend string) (_ []*x509.Certificate, f *Finding) {
		return nil, &Finding{Level: Fail, ID: id, Text: text, Mend: mend}
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		f := s.unknownAuthority()
		if strings.Contains(err.Error(), "possibly because of") {
			f.Text += "; one of that name is trusted, but did not sign it"
		}
		return nil, &f
	}
	if _, ok := errors.AsType[x509.SystemRootsError](err); ok {
		return fault("no_roots", "this machine has no list of authorities to verify with", "install ca-certificates, or give --ca FILE")
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		switch invalid.Reason {
		case x509.Expired:
			return fault("chain_expired", fmt.Sprintf("the certificate %s above the server's is out of its dates (%s to %s)", nameOf(invalid.Cert), date(invalid.Cert.NotBefore), date(invalid.Cert.NotAfter)),
				"replace it by the authority's present one: the file that came with the last renewal")
		case x509.IncompatibleUsage:
			return fault("usage", "the certificate is not for TLS servers (extended key usage)", "have it issued with the usage serverAuth")
		}
	}
	return fault("not_verified", "the chain can not be verified: "+shown(strings.TrimPrefix(err.Error(), "x509: ")), "compare the chain with what the authority hands out")
}

// unknownAuthority tells where the chain ends instead of at a trusted root.
func (s *session) unknownAuthority() Finding {
	path := pathOf(s.chain)
	last := path[len(path)-1]
	switch {
	case selfIssued(last) && len(path) == 1:
		return Finding{Level: Fail, ID: "self_signed", Text: "the certificate is self-signed, and not among those trusted",
			Mend: "get one from an authority that clients trust; or, where it is meant so, give it with --ca FILE"}
	case selfIssued(last):
		return Finding{Level: Fail, ID: "authority_unknown", Text: fmt.Sprintf("the chain ends at the authority %s, which is not among those trusted (%s)", nameOf(last), s.RootsName),
			Mend: "for a private authority give its certificate with --ca FILE, as clients must have it, too; else get a certificate of a public one"}
	}
	f := Finding{Level: Fail, ID: "issuer_missing", Text: fmt.Sprintf("the certificate of the issuer %s was not sent, and it is not among those trusted (%s)", shown(last.Issuer.String()), s.RootsName),
		Mend: "append the missing intermediate certificate behind the server's own (certbot: serve fullchain.pem, not cert.pem); for a private authority give --ca FILE"}
	if len(last.IssuingCertificateURL) > 0 {
		f.Mend += "; it is to be had at " + shown(last.IssuingCertificateURL[0])
	}
	return f
}

// orderFaults finds what does not belong into the chain, or not there (RFC 8446
// section 4.4.2). Most clients cope.
func (s *session) orderFaults(verified bool) (faults []Finding) {
	path := pathOf(s.chain)
	inOrder := true
	for i, cert := range s.chain[1:min(len(s.chain), maxChain)] {
		switch {
		case !slices.ContainsFunc(path, cert.Equal) || slices.ContainsFunc(s.chain[:i+1], cert.Equal):
			faults = append(faults, Finding{Level: Warn, ID: "chain_extra", Text: fmt.Sprintf("certificate %d of those sent, %s, is not part of the chain", i+2, nameOf(cert)),
				Mend: "take it out: it makes the handshake larger, and confuses some clients"})
		case selfIssued(cert) && verified:
			faults = append(faults, Finding{Level: Note, ID: "chain_root", Text: fmt.Sprintf("the root %s is sent, which clients have or do not trust anyway", nameOf(cert)),
				Mend: "take it out, unless a TLSA record of DANE-TA (2 x x) needs it"})
		case !issued(cert, s.chain[i]):
			inOrder = false
		}
	}
	if !inOrder && len(faults) == 0 {
		faults = append(faults, Finding{Level: Warn, ID: "chain_order", Text: "the certificates are sent in the wrong order",
			Mend: "put the server's own first, then what issued it, then what issued that: some clients refuse another order"})
	}
	return faults
}
