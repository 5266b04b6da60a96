package sni

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

// OCSP is whether OCSP responses are stapled (RFC 6066 section 8). The zero
// value means "not set".
type OCSP int

const (
	// OCSPAuto staples the response of ocsp.der if that is there and good, and
	// else asks the responder that the certificate names, if it names one. This
	// is the default.
	OCSPAuto OCSP = iota + 1
	// OCSPOff staples nothing and asks nobody.
	OCSPOff
)

// UnmarshalText reads auto or off.
func (o *OCSP) UnmarshalText(text []byte) error {
	switch string(text) {
	case "auto":
		*o = OCSPAuto
	case "off":
		*o = OCSPOff
	default:
		return fmt.Errorf("%q is not a policy for OCSP stapling: want auto or off", text)
	}
	return nil
}

// String returns "auto" or "off", and "" for the zero value.
func (o OCSP) String() string { return [...]string{"", "auto", "off"}[o] }

// Stapler is implemented by the options of a folder (see Options.FolderOptions)
// that say otherwise than Options.OCSP; the zero value leaves it at that.
type Stapler interface{ OCSPStapling() OCSP }

// staple is an OCSP response that says "good" of a certificate. It never
// changes.
type staple struct {
	der     []byte
	until   time.Time
	refresh time.Time // when to ask again
	fetched bool      // by us, and not read from a file
}

func (s *staple) good(now time.Time) bool { return s != nil && now.Before(s.until) }

const (
	maxResponse   = 64 << 10         // a response with its certificate is 0.5 to 3 kB
	fetchTimeout  = 10 * time.Second // for one request, redirects and all
	clockSkew     = 5 * time.Minute  // how far in the future a response may begin
	withoutNext   = 24 * time.Hour   // validity of a response without nextUpdate, as Firefox takes it
	refreshLate   = time.Hour        // pause at most if half the time of a response has passed as it comes
	refreshAtMost = time.Minute      // and at least, whatever a responder says
)

// parseStaple verifies a response for a certificate. Without the issuer, which
// is in the chain or nowhere, only clients can verify the signature.
func parseStaple(der []byte, cert *tls.Certificate, now time.Time) (*staple, error) {
	issuer := issuerOf(cert)
	response, err := ocsp.ParseResponseForCert(der, cert.Leaf, issuer)
	if err != nil {
		return nil, err
	}
	if issuer != nil {
		if err := checkResponder(response.Certificate, issuer, now); err != nil {
			return nil, err
		}
	}
	switch response.Status {
	case ocsp.Good:
	case ocsp.Revoked:
		return nil, fmt.Errorf("the certificate was revoked at %s: replace it", response.RevokedAt.UTC().Format(time.RFC3339))
	default:
		return nil, errors.New("the responder does not know the certificate")
	}
	until := response.NextUpdate
	if until.IsZero() {
		until = response.ThisUpdate.Add(withoutNext)
	}
	switch {
	case response.ThisUpdate.After(now.Add(clockSkew)):
		return nil, fmt.Errorf("the response is not valid before %s", response.ThisUpdate.UTC().Format(time.RFC3339))
	case !now.Before(until):
		return nil, fmt.Errorf("the response expired at %s", until.UTC().Format(time.RFC3339))
	}
	return &staple{der: der, until: until, refresh: refreshAt(response.ThisUpdate, until, now)}, nil
}

// refreshAt is half the time of a response, or soon if that has passed.
func refreshAt(from, until, now time.Time) time.Time {
	at := from.Add(until.Sub(from) / 2)
	if !at.After(now) {
		at = now.Add(min(refreshLate, until.Sub(now)/2))
	}
	if soonest := now.Add(refreshAtMost); at.Before(soonest) {
		at = soonest
	}
	return at
}

// checkResponder wants of a responder other than the issuer what RFC 6960
// section 4.2.2.2 does. That the issuer signed its certificate, package ocsp has
// seen; without this any customer of an authority could speak for it.
func checkResponder(responder, issuer *x509.Certificate, now time.Time) error {
	switch {
	case responder == nil || responder.Equal(issuer):
		return nil
	case !slices.Contains(responder.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return errors.New("the response is signed by a certificate that is not for OCSP")
	case now.After(responder.NotAfter) || now.Before(responder.NotBefore.Add(-clockSkew)):
		return errors.New("the responder's certificate is out of its dates")
	}
	return nil
}

// issuerOf finds the certificate that issued the leaf in its chain.
func issuerOf(cert *tls.Certificate) *x509.Certificate {
	for _, der := range cert.Certificate[1:] {
		issuer, err := x509.ParseCertificate(der)
		if err == nil && bytes.Equal(issuer.RawSubject, cert.Leaf.RawIssuer) {
			return issuer
		}
	}
	return nil
}

// MustStaple reports the TLS feature status_request (RFC 7633): a client may
// refuse the certificate without a staple.
func MustStaple(leaf *x509.Certificate) bool {
	i := slices.IndexFunc(leaf.Extensions, isTLSFeature)
	if i < 0 {
		return false
	}
	var features []int
	_, err := asn1.Unmarshal(leaf.Extensions[i].Value, &features)
	return err == nil && slices.Contains(features, 5)
}

func isTLSFeature(e pkix.Extension) bool {
	return e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24})
}

// CheckStaple judges the OCSP response of a pair as a client does that was sent
// both: until when it is good, or why a client refuses it. Leaf and OCSPStaple
// must be set. The signature counts only where the issuer is in the chain.
func CheckStaple(cert *tls.Certificate, now time.Time) (until time.Time, err error) {
	s, err := parseStaple(cert.OCSPStaple, cert, now)
	if err != nil {
		return time.Time{}, err
	}
	return s.until, nil
}

// responder returns the address to ask of a certificate, or "".
func responder(cert *tls.Certificate) string {
	for _, address := range cert.Leaf.OCSPServer {
		if strings.HasPrefix(address, "http") && issuerOf(cert) != nil {
			return address
		}
	}
	return ""
}

// fetchStaple asks the responder of a certificate.
func (s *Store) fetchStaple(ctx context.Context, cert *tls.Certificate) (*staple, error) {
	question, err := ocsp.CreateRequest(cert.Leaf, issuerOf(cert), nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, responder(cert), bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/ocsp-request")
	request.Header.Set("Accept", "application/ocsp-response")
	answer, err := s.options.HTTP.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered with HTTP status %d", responder(cert), answer.StatusCode)
	}
	der, err := io.ReadAll(io.LimitReader(answer.Body, maxResponse+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", responder(cert), err)
	}
	if len(der) > maxResponse {
		return nil, fmt.Errorf("the answer of %s is larger than %d bytes", responder(cert), maxResponse)
	}
	got, err := parseStaple(der, cert, time.Now())
	if err != nil {
		return nil, fmt.Errorf("the answer of %s: %w", responder(cert), err)
	}
	got.fetched = true
	return got, nil
}
