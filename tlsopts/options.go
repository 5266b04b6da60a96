// Package tlsopts turns TLS options, as the operators of mail servers write
// them, into a *tls.Config with secure defaults for SMTP.
//
// The options are plain values whose zero value means "the default"; the
// types that are read from text implement encoding.TextUnmarshaler, so that
// any configuration format can carry them. Nothing that the environment says
// (GODEBUG) weakens the result: versions, cipher suites and curves are always
// set by name.
//
// All functions are safe for concurrent use, and a *tls.Config made here must
// not be changed once it is in use.
package tlsopts

import (
	"crypto/tls"
	"fmt"
)

// Options are the TLS settings of one listener. The zero value is a secure
// default: TLS 1.2 and 1.3, forward-secret AEAD suites, ALPN strict.
type Options struct {
	// MinVersion is the lowest version accepted; the default is TLS 1.2
	// (RFC 8996, RFC 9325 section 3.1.1).
	MinVersion Version
	// MaxVersion is the highest version accepted; the default is TLS 1.3.
	MaxVersion Version
	// ALPN is the protocol name policy; the default is ALPNStrict.
	ALPN ALPN
}

// aeadSuites are the suites for TLS 1.2: forward secrecy and authenticated
// encryption only (RFC 9325 section 4.2). TLS 1.3 suites are not configurable
// in crypto/tls, and all are sound.
var aeadSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// cbcSuites are added when TLS 1.0 or 1.1 was named, which know no AEAD.
var cbcSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
}

// curves are the key exchanges offered, hybrid post-quantum ones first.
var curves = []tls.CurveID{
	tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024,
	tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
}

// Config returns the server configuration for the options. The caller sets
// its certificate callbacks before first use.
//
// Session tickets are off: crypto/tls resumes a ticket that it issued under
// one server name under any other, and Outlook.com drops handshakes with Go
// servers that send tickets (golang/go#70232).
func (o Options) Config() (*tls.Config, error) {
	if o.MinVersion == 0 {
		o.MinVersion = TLS12
	}
	if o.MinVersion > o.maxVersion() {
		return nil, fmt.Errorf("min_version %s is above max_version %s", o.MinVersion, o.maxVersion())
	}
	suites := aeadSuites
	if o.MinVersion < TLS12 {
		suites = append(suites[:len(suites):len(suites)], cbcSuites...)
	}
	return &tls.Config{
		MinVersion:             uint16(o.MinVersion),
		MaxVersion:             uint16(o.maxVersion()),
		CipherSuites:           suites,
		CurvePreferences:       curves,
		NextProtos:             o.ALPN.protocols(),
		SessionTicketsDisabled: true,
	}, nil
}

func (o Options) maxVersion() Version {
	if o.MaxVersion == 0 {
		return TLS13
	}
	return o.MaxVersion
}

// Merge returns o with every field that is not set taken from base.
func (o Options) Merge(base Options) Options {
	if o.MinVersion == 0 {
		o.MinVersion = base.MinVersion
	}
	if o.MaxVersion == 0 {
		o.MaxVersion = base.MaxVersion
	}
	if o.ALPN == "" {
		o.ALPN = base.ALPN
	}
	return o
}
