package sni

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"time"
)

// ocspPolicy is what the folder says, or else the store.
func (id *Identity) ocspPolicy(o Options) OCSP {
	if own, ok := id.Options.(Stapler); ok && own.OCSPStapling() != 0 {
		return own.OCSPStapling()
	}
	return o.OCSP
}

// staple gives the certificates the responses that lie beside them.
func (r *reading) staple(id *Identity) {
	id.staples = make([]*staple, len(id.Certificates))
	policy := id.ocspPolicy(r.options)
	if policy != OCSPOff {
		r.stapleFiles(id)
	}
	for i, cert := range id.Certificates {
		if id.staples[i] != nil {
			id.Certificates[i] = withStaple(cert, id.staples[i])
		} else if MustStaple(cert.Leaf) && (policy == OCSPOff || responder(cert) == "") {
			r.warn("", demandsStaple, "OCSP stapling is off, or the certificate names no responder that could be asked")
		}
	}
}

const demandsStaple = "the certificate demands an OCSP staple (must-staple), without which clients may refuse it, and there is none: %s"

// stapleFiles reads ocsp.der and its like. A fault in one is no reason to
// serve nothing.
func (r *reading) stapleFiles(id *Identity) {
	for _, name := range slices.DeleteFunc(slices.Clone(r.names), func(name string) bool { return !isStaple(name) }) {
		der, err := r.file(name)
		if err != nil {
			r.warn(name, "%v", errors.Unwrap(err))
			continue
		}
		var fault error
		for i, cert := range id.Certificates {
			found, err := parseStaple(der, cert, r.look.at)
			if err == nil {
				id.staples[i], fault = found, nil
				break
			}
			if fault == nil || mentions(der, cert) {
				fault = err
			}
		}
		if fault != nil {
			r.warn(name, "the OCSP response is not stapled: %v", fault)
		}
	}
}

// mentions reports whether a response is for a certificate, by its serial.
func mentions(der []byte, cert *tls.Certificate) bool {
	return bytes.Contains(der, cert.Leaf.SerialNumber.Bytes())
}

// inherit returns id with what was fetched for the same certificates of old,
// which may be nil.
func (id *Identity) inherit(old *Identity, o Options) *Identity {
	if old == nil || id.ocspPolicy(o) == OCSPOff {
		return id
	}
	staples, now := slices.Clone(id.staples), time.Now()
	for i, cert := range id.Certificates {
		if st := old.fetchedFor(cert); staples[i] == nil && st.good(now) {
			staples[i] = st
		}
	}
	if slices.Equal(staples, id.staples) {
		return id
	}
	return id.withStaples(staples)
}

// fetchedFor returns what was fetched for a certificate, or nil.
func (id *Identity) fetchedFor(cert *tls.Certificate) *staple {
	for i, mine := range id.Certificates {
		if mine.Leaf.Equal(cert.Leaf) && id.staples[i] != nil && id.staples[i].fetched {
			return id.staples[i]
		}
	}
	return nil
}

// withStaple returns a copy of cert; st may be nil.
func withStaple(cert *tls.Certificate, st *staple) *tls.Certificate {
	stapled := *cert
	stapled.OCSPStaple = nil
	if st != nil {
		stapled.OCSPStaple = st.der
	}
	return &stapled
}

// Unstapled returns a copy of the identity without OCSP responses, for listeners
// that staple none.
func (id *Identity) Unstapled() *Identity {
	return id.withStaples(make([]*staple, len(id.Certificates)))
}

// withStaples returns a copy of id with other staples, without what was made
// of the old one.
func (id *Identity) withStaples(staples []*staple) *Identity {
	next := &Identity{
		Folder: id.Folder, ClientCA: id.ClientCA, Options: id.Options,
		groups: id.groups, sum: id.sum, first: id.first, last: id.last, warnings: id.warnings, carried: id.carried,
		staples: staples,
	}
	for i, cert := range id.Certificates {
		next.Certificates = append(next.Certificates, withStaple(cert, staples[i]))
	}
	return next
}

// sameStaples reports whether two identities of the same content have the same
// staples, too.
func sameStaples(a, b *Identity) bool {
	return slices.EqualFunc(a.staples, b.staples, func(a, b *staple) bool {
		return a == b || a != nil && b != nil && bytes.Equal(a.der, b.der)
	})
}
