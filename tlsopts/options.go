// Package tlsopts turns TLS options, as the operators of mail servers know them
// from Node.js, OpenSSL and nginx, into a *tls.Config with secure defaults for
// SMTP.
//
//	options := tlsopts.Options{Ciphers: "ECDHE+AESGCM:ECDHE+CHACHA20"}
//	server, err := options.Server(tlsopts.ServerConfig{Certificates: certificates})
//	...
//	listener, err := tls.Listen("tcp", ":465", server.Config())
//
// The options are plain, comparable values whose zero value means "the default".
// The types that are read from text implement encoding.TextUnmarshaler, so that
// any configuration format can carry them. Errors begin with the name of the
// field in such a file (min_version), and tell how to mend it.
//
// [Options.Config] gives a *tls.Config. crypto/tls ignores the order of the
// cipher suites and curves in it; [Options.Server] holds to them.
//
// ParsePairs reads certificates and keys in every common form, ClientAuth says
// which client certificates are accepted, ServerAuth which server a client talks
// to. The package issues no certificates.
//
// Session tickets are off unless a Server is given [Tickets]: crypto/tls resumes
// a ticket that it issued under one server name under any other, and Outlook.com
// drops handshakes with Go servers that send tickets (golang/go#70232).
//
// Nothing that the environment says weakens the result. Versions, cipher suites
// and curves are always set by name, so that GODEBUG cannot switch on TLS 1.0,
// RSA key exchange or 3DES, and they work without it where they are named. Its
// settings that no option can undo (tlsmlkem=0, tlssecpmlkem=0, tlssha1=1) are
// errors as far as they concern the options.
//
// All functions are safe for concurrent use, and a *tls.Config made here must
// not be changed once it is in use.
package tlsopts

import "crypto/tls"

// Options are the TLS settings of one listener or one certificate. The zero
// value is a secure default: TLS 1.2 and 1.3, forward-secret AEAD suites in our
// order, hybrid and elliptic curves, ALPN strict.
type Options struct {
	// Profile chooses versions and cipher suites; the default is Intermediate.
	// It has no like in Node.js or OpenSSL; see Mozilla's Server Side TLS. An
	// unknown name is an error.
	Profile Profile

	// MinVersion is the lowest version accepted; the default is the profile's,
	// TLS 1.2 for Intermediate (RFC 8996, RFC 9325 section 3.1.1). Below TLS
	// 1.2 the suites with CBC are added unless Ciphers is set. It is minVersion
	// of Node.js, MinProtocol of OpenSSL. It must not be above MaxVersion.
	MinVersion Version

	// MaxVersion is the highest version accepted; the default is TLS 1.3. It is
	// maxVersion of Node.js, MaxProtocol of OpenSSL.
	MaxVersion Version

	// Ciphers are the suites of TLS 1.2 and below, in order of preference, as an
	// OpenSSL cipher string; the default are the profile's. It is ciphers of
	// Node.js, ssl_ciphers of nginx. A name that is unknown, and a string from
	// which no suite remains, are errors.
	Ciphers Ciphers

	// HonorCipherOrder says whether the order of Ciphers or the client's
	// decides; the default is ServerOrder. Only a Server holds to it. It is
	// honorCipherOrder of Node.js, ssl_prefer_server_ciphers of nginx.
	HonorCipherOrder CipherOrder

	// Curves are the key exchange groups, in order of preference; the default is
	// CurvesAuto. It is ecdhCurve of Node.js, ssl_ecdh_curve of nginx. An
	// unknown name is an error, and so are curves and suites that no version
	// can be used with.
	Curves Curves

	// ALPN is the protocol name policy (RFC 7301); the default is ALPNStrict. It
	// is ALPNProtocols of Node.js. Names of HTTP are an error.
	ALPN ALPN
}

// Config returns the server configuration for the options. The caller sets
// its certificate callbacks before first use.
//
// The order of CipherSuites and CurvePreferences in it is that of the options,
// but crypto/tls has its own; see [Options.Server].
func (o Options) Config() (*tls.Config, error) {
	p, err := o.resolve()
	if err != nil {
		return nil, err
	}
	return p.config(), nil
}

// WithDefaults returns o with every field set that has a default of its own;
// Ciphers stays as it is, where the profile's suites are meant.
func (o Options) WithDefaults() Options {
	inherit(&o.Profile, Intermediate)
	inherit(&o.MinVersion, profileMin[o.Profile])
	inherit(&o.MaxVersion, TLS13)
	inherit(&o.HonorCipherOrder, ServerOrder)
	inherit(&o.Curves, CurvesAuto)
	inherit(&o.ALPN, ALPNStrict)
	return o
}

// Merge returns o with every field that is not set taken from base, as for the
// options of a certificate over those of its listener.
//
// A profile decides on versions and ciphers. Where o names one, it does so for
// o: what base says of MinVersion, MaxVersion and Ciphers is not taken, or
// "modern" for one certificate would come to nothing on a listener with
// "min_version: TLSv1.2".
func (o Options) Merge(base Options) Options {
	if o.Profile == "" {
		o.Profile = base.Profile
		inherit(&o.MinVersion, base.MinVersion)
		inherit(&o.MaxVersion, base.MaxVersion)
		inherit(&o.Ciphers, base.Ciphers)
	}
	inherit(&o.HonorCipherOrder, base.HonorCipherOrder)
	inherit(&o.Curves, base.Curves)
	inherit(&o.ALPN, base.ALPN)
	return o
}

// inherit sets a field that is not set.
func inherit[T comparable](field *T, base T) {
	var unset T
	if *field == unset {
		*field = base
	}
}
