package sni

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// Identity is what a server is for one folder: its certificates with their
// keys, and what goes with them. A renewal, and a new OCSP staple, make another
// Identity; one that was handed out never changes, and must not be changed. It
// is safe for concurrent use and must not be copied.
type Identity struct {
	Folder string // name of the folder, from the directory and never from a client

	// Certificates has one or more pairs, at most one for each key type and
	// curve, most preferred first (tlsopts.SortPairs). OCSPStaple is set where
	// there is one, and so is Leaf, but to save memory only with Raw, RawIssuer,
	// RawSubject, serial number, dates, key, names and OCSP responders.
	// x509.ParseCertificate of Certificate[0] gives the rest.
	Certificates []*tls.Certificate

	ClientCA *tlsopts.Authorities // of ca.pem, for client certificates; nil without that file

	// Options is what Options.FolderOptions made of tls.yaml; nil without that
	// file, or without that function.
	Options any

	groups      []readGroup
	staples     []*staple         // of Certificates, in their order; nil for none
	sum         [sha256.Size]byte // of all that was read
	first, last int64             // when the certificates begin and have ended to expire, in seconds since 1970
	warnings    []string
	carried     bool // some pairs are of an earlier reading, as they could not be renewed
	configs     atomic.Pointer[[]attached]
}

// PassphraseFiler is implemented by the options of a folder (see
// Options.FolderOptions) that name the file with the passphrase of its keys: a
// path, seen from the folder if it is not absolute; "" means the file
// "passphrase" in the folder, if there is one.
type PassphraseFiler interface{ PassphraseFile() string }

// Certificate chooses the pair for a client: see tlsopts.ChooseCertificate.
// Pairs that have expired are out of the choice as long as there is another.
// Config is the one that the handshake is under.
func (id *Identity) Certificate(config *tls.Config, hello *tls.ClientHelloInfo) *tls.Certificate {
	if len(id.Certificates) == 1 {
		return id.Certificates[0]
	}
	return tlsopts.ChooseCertificate(config, hello, id.valid(time.Now()))
}

// NotAfter is when the first of the certificates expires.
func (id *Identity) NotAfter() time.Time { return time.Unix(id.first, 0).UTC() }

// Valid returns the pairs that have not expired, or all if all have.
func (id *Identity) Valid() []*tls.Certificate { return id.valid(time.Now()) }

func (id *Identity) valid(now time.Time) []*tls.Certificate {
	if at := now.Unix(); at <= id.first || at > id.last {
		return id.Certificates
	}
	return slices.DeleteFunc(slices.Clone(id.Certificates), func(cert *tls.Certificate) bool {
		return now.After(cert.Leaf.NotAfter)
	})
}

// expired reports whether the last pair has expired.
func (id *Identity) expired(now time.Time) bool { return now.Unix() > id.last }

// covers reports whether the certificates are for name.
func (id *Identity) covers(name string) bool {
	return !slices.ContainsFunc(id.Certificates, func(cert *tls.Certificate) bool {
		return cert.Leaf.VerifyHostname(name) != nil
	})
}

// attached is a configuration for one key.
type attached struct {
	key    any
	config *tls.Config
}

// maxAttached bounds the configurations kept with one identity. Each listener
// has one; more than that are left behind by listeners that were reloaded.
const maxAttached = 64

// Config returns the configuration that build made for this identity and key,
// which it calls for the first handshake and, when two race, once more. It is
// kept as long as the identity is in service, so that all handshakes of a
// listener under this name share one configuration, without a lock and without
// allocation. The key must be comparable and stand for all else that goes into
// the configuration: the address of the listener's settings, for one.
// The configuration must not be changed after build returned it; nil is not kept.
//
// Of more than 64 keys the oldest are forgotten and built again; see
// Store.ForgetConfigs.
func (id *Identity) Config(key any, build func() *tls.Config) *tls.Config {
	if kept := id.configs.Load(); kept != nil {
		for i := range *kept {
			if (*kept)[i].key == key {
				return (*kept)[i].config
			}
		}
	}
	config := build()
	if config != nil {
		config = id.attach(key, config)
	}
	return config
}

// attach keeps config, or returns the one that was kept meanwhile.
func (id *Identity) attach(key any, config *tls.Config) *tls.Config {
	for {
		old := id.configs.Load()
		var next []attached
		if old != nil {
			for _, each := range *old {
				if each.key == key {
					return each.config
				}
			}
			next = append(next, (*old)[max(0, len(*old)-maxAttached+1):]...)
		}
		next = append(next, attached{key, config})
		if id.configs.CompareAndSwap(old, &next) {
			return config
		}
	}
}

// finish makes the identity of what was read.
func (r *reading) finish(id *Identity) {
	id.groups = r.groups
	sum := sha256.New()
	for _, each := range r.digests {
		sum.Write(each[:])
	}
	sum.Sum(id.sum[:0])
	served := make(map[string]string) // by key type and curve: where the pair is
	for _, g := range r.groups {
		for _, cert := range g.pairs {
			kind := keyTypeAndCurve(cert)
			if other, ok := served[kind]; ok {
				r.warn(g.file, "there is a pair of the same key type, %s, in %s, and that is served: remove one", kind, other)
				continue
			}
			served[kind] = r.pathOf(g.file)
			id.add(cert)
			r.inspect(g.file, cert)
		}
	}
	tlsopts.SortPairs(id.Certificates)
	r.staple(id)
	id.warnings, id.carried = r.warnings, r.carried
}

func (id *Identity) add(cert *tls.Certificate) {
	at := cert.Leaf.NotAfter.Unix()
	if len(id.Certificates) == 0 {
		id.first, id.last = at, at
	}
	id.first, id.last = min(id.first, at), max(id.last, at)
	id.Certificates = append(id.Certificates, cert)
}

// keyType is the label of the metrics.
func keyType(cert *x509.Certificate) string {
	switch cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return "rsa"
	case *ecdsa.PublicKey:
		return "ecdsa"
	case ed25519.PublicKey:
		return "ed25519"
	}
	return "other"
}

// keyTypeAndCurve tells apart what clients choose between.
func keyTypeAndCurve(cert *tls.Certificate) string {
	kind := keyType(cert.Leaf)
	if key, ok := cert.Leaf.PublicKey.(*ecdsa.PublicKey); ok {
		return fmt.Sprintf("%s %s", kind, key.Curve.Params().Name)
	}
	return kind
}
