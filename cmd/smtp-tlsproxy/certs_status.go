package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// The states of a domain.
const (
	stateOK      = "ok"
	stateWarning = "warning" // served, and to be mended
	stateFault   = "fault"
)

// domainStatus is what "certs list" tells of a folder. It is the JSON that
// docs/commands.md promises: fields may be added, and none may change.
type domainStatus struct {
	Domain       string              `json:"domain"`
	State        string              `json:"state"`
	Default      bool                `json:"default"`
	Certificates []certificateStatus `json:"certificates"`
	Staged       []stagedStatus      `json:"staged"`
	Faults       []string            `json:"faults"`
	Warnings     []string            `json:"warnings"`
}

type certificateStatus struct {
	Names []string `json:"names"`
	keyStatus
	Issuer    string    `json:"issuer"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	DaysLeft  int       `json:"days_left"`

	leaf *x509.Certificate
}

type stagedStatus struct {
	File string `json:"file"`
	keyStatus
}

type keyStatus struct {
	KeyType string `json:"key_type"`
	KeyBits int    `json:"key_bits"`
	SPKI    string `json:"spki_sha256"`
}

// status is a report as it is told.
func (c *check) status(report sni.Report) domainStatus {
	d := domainStatus{Domain: escape.Text(report.Folder, ""), State: stateOK, Default: report.Default,
		Certificates: []certificateStatus{}, Staged: []stagedStatus{}}
	for _, cert := range report.Certificates {
		leaf := cert.Leaf
		d.Certificates = append(d.Certificates, certificateStatus{
			Names: allNames(leaf), keyStatus: statusOfKey(leaf.PublicKey), Issuer: escape.Text(leaf.Issuer.String(), ""),
			NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), DaysLeft: daysLeft(leaf), leaf: leaf,
		})
	}
	for _, key := range report.Staged {
		d.Staged = append(d.Staged, stagedStatus{key.File, statusOfKey(key.Public)})
	}
	faults, warnings := c.findings(report)
	d.Faults, d.Warnings = append([]string{}, faults...), append([]string{}, warnings...)
	switch {
	case len(faults) > 0:
		d.State = stateFault
	case len(warnings) > 0:
		d.State = stateWarning
	}
	return d
}

// firstExpiry is when the first certificate expires: the beginning of time
// without one, as what is broken comes first.
func (d domainStatus) firstExpiry() (first time.Time) {
	for i, cert := range d.Certificates {
		if i == 0 || cert.NotAfter.Before(first) {
			first = cert.NotAfter
		}
	}
	return first
}

// daysLeft are whole days until a certificate expires; negative ones since.
func daysLeft(leaf *x509.Certificate) int { return int(time.Until(leaf.NotAfter).Hours() / 24) }

// maxNames is how many names of a certificate a table shows.
const maxNames = 3

func names(leaf *x509.Certificate) string {
	all := allNames(leaf)
	if len(all) > maxNames {
		all = append(all[:maxNames], fmt.Sprintf("and %d more", len(all)-maxNames))
	}
	return strings.Join(all, " ")
}

// allNames are the names of a certificate, fit to be shown: whoever made it chose them.
func allNames(leaf *x509.Certificate) []string {
	all := slices.Clone(leaf.DNSNames)
	for i, name := range all {
		all[i] = escape.Field(name)
	}
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	if all == nil {
		return []string{}
	}
	return all
}

// issuerOf names who signed a certificate in a few words.
func issuerOf(leaf *x509.Certificate) string {
	name := leaf.Issuer.CommonName
	if name == "" {
		name = leaf.Issuer.String()
	}
	return escape.Field(name)
}

func statusOfKey(key any) keyStatus {
	s := keyStatus{KeyType: "other"}
	if pin, err := tlsopts.PinOfKey(key); err == nil {
		s.SPKI = hex.EncodeToString(pin[:])
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		s.KeyType, s.KeyBits = "rsa", key.N.BitLen()
	case *ecdsa.PublicKey:
		s.KeyType, s.KeyBits = "ecdsa", key.Params().BitSize
	case ed25519.PublicKey:
		s.KeyType, s.KeyBits = "ed25519", 256
	}
	return s
}
