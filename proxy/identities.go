package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// Override is what a certificate folder wants otherwise than its listener. The
// zero value is nothing.
type Override struct {
	TLS tlsopts.Options // merged over those of the listener
	// ClientAuthMode and ClientAuthPins stand in place of the listener's where
	// they are set. The authorities are those of the folder, if it has any.
	ClientAuthMode tlsopts.ClientAuthMode
	ClientAuthPins []tlsopts.Pin
	// Staple keeps the OCSP responses that the listener leaves out.
	Staple bool
}

// ClientAuth is the client authentication of a listener with what the folder has
// otherwise. Authorities are the folder's; nil if it has none.
func (o Override) ClientAuth(auth tlsopts.ClientAuth, authorities *tlsopts.Authorities) tlsopts.ClientAuth {
	if o.ClientAuthMode != "" {
		auth.Mode = o.ClientAuthMode
	}
	if o.ClientAuthPins != nil {
		auth.Pins = o.ClientAuthPins
	}
	if authorities != nil {
		auth.CA = authorities
	}
	return auth
}

// Overrider is implemented by the sni.Identity.Options of a folder that wants
// something otherwise.
type Overrider interface{ Override() Override }

// hello is what a session remembers of its ClientHello.
type hello struct {
	serverName string               // as the client sent it
	identity   *sni.Identity        // that serves it; nil for none
	clientAuth *tlsopts.ClientAuth  // that holds for it
	refused    bool                 // the name has no certificate, and this listener serves no other
	failed     error                // no certificate could be loaded
	info       *tls.ClientHelloInfo // until the handshake succeeded
}

// identities are the TLS configurations of a listener: one for every folder, or
// one for each that has something of its own. All are made once and then never
// changed.
type identities struct {
	*Listener
	config *tls.Config     // to begin handshakes with
	shared *tlsopts.Server // for folders with nothing of their own
}

func newIdentities(l *Listener) (*identities, error) {
	i := &identities{Listener: l}
	var err error
	i.shared, err = l.TLS.Server(tlsopts.ServerConfig{
		Certificates: func(info *tls.ClientHelloInfo) ([]*tls.Certificate, error) {
			if id := helloOf(info).identity; id != nil {
				return id.Valid(), nil
			}
			return nil, nil
		},
		ClientAuth: l.ClientAuth,
		KeyLog:     l.KeyLog,
	})
	if err != nil {
		return nil, err
	}
	i.config = i.shared.Config().Clone()
	i.config.GetConfigForClient = i.configForClient
	return i, nil
}

func helloOf(info *tls.ClientHelloInfo) *hello { return &info.Conn.(*clientConn).session.hello }

// configForClient answers a ClientHello. crypto/tls asks it also where a
// session resumes, and then for no certificate. Without a certificate the
// client gets the alert unrecognized_name; an error is internal_error.
func (i *identities) configForClient(info *tls.ClientHelloInfo) (*tls.Config, error) {
	h := helloOf(info)
	h.serverName, h.info, h.clientAuth = info.ServerName, info, &i.ClientAuth
	match := i.Certificates.Lookup(info.ServerName)
	// Counted last: only a folder that was loaded has a series.
	defer func() { info.Conn.(*clientConn).session.srv.metrics.SNIRequest(domain(match)) }()
	if i.RejectUnknownSNI && match.Unrecognized() {
		h.refused = true
		return i.shared.ConfigForClient(info)
	}
	h.identity, _, h.failed = i.Certificates.Serve(info.Context(), match)
	switch {
	case h.failed != nil:
		return nil, h.failed
	case h.identity == nil:
		h.refused = true
		return i.shared.ConfigForClient(info)
	case !i.isOwn(h.identity):
		return i.shared.ConfigForClient(info)
	}
	return i.own(h, info)
}

// isOwn tells whether a folder needs configurations of its own.
func (i *identities) isOwn(id *sni.Identity) bool {
	return i.Tickets != nil || id.Options != nil || id.ClientCA != nil || i.NoStapling && isStapled(id)
}

func isStapled(id *sni.Identity) bool {
	return slices.ContainsFunc(id.Certificates, func(cert *tls.Certificate) bool { return len(cert.OCSPStaple) > 0 })
}

// own returns the configuration of a folder for a client. They are kept with
// the identity, and go with it when it is renewed.
func (i *identities) own(h *hello, info *tls.ClientHelloInfo) (*tls.Config, error) {
	auth := i.clientAuthOf(h.identity)
	h.clientAuth = &auth
	var err error
	config := h.identity.Config(i, func() *tls.Config {
		var server *tlsopts.Server
		if server, err = i.server(h.identity, auth); err != nil {
			return nil
		}
		return server.Config()
	})
	if config == nil {
		h.failed = fmt.Errorf("folder %s: the TLS options of its tls.yaml do not go with those of listener %s: %w", h.identity.Folder, i.Name, err)
		return nil, h.failed
	}
	return config.GetConfigForClient(info)
}

func (i *identities) server(id *sni.Identity, auth tlsopts.ClientAuth) (*tlsopts.Server, error) {
	override := overrideOf(id)
	shown := id
	if i.NoStapling && !override.Staple {
		shown = id.Unstapled()
	}
	return override.TLS.Merge(i.TLS).Server(tlsopts.ServerConfig{
		Certificates: func(*tls.ClientHelloInfo) ([]*tls.Certificate, error) { return shown.Valid(), nil },
		ClientAuth:   auth,
		Tickets:      i.Tickets,
		ServerName:   id.Folder,
		Context:      i.TicketContext,
		KeyLog:       i.KeyLog,
	})
}

// clientAuthOf is the listener's client authentication with what the folder
// has otherwise.
func (i *identities) clientAuthOf(id *sni.Identity) tlsopts.ClientAuth {
	return overrideOf(id).ClientAuth(i.ClientAuth, id.ClientCA)
}

func overrideOf(id *sni.Identity) Override {
	if o, ok := id.Options.(Overrider); ok {
		return o.Override()
	}
	return Override{}
}

// domain is the label of a match.
func domain(m sni.Match) string {
	switch {
	case m.Name == sni.NameAbsent:
		return metrics.DomainNone
	case m.Name == sni.NameKnown:
		return m.Folder
	}
	return metrics.DomainOther
}

// explain says what crypto/tls can not know.
func (h hello) explain(err error) error {
	switch {
	case h.failed != nil:
		return fmt.Errorf("no certificate can be served: %w", h.failed)
	case h.refused && h.serverName == "":
		return errors.New("the client named no server, and there is no default certificate")
	case h.refused:
		return errors.New("no certificate for the client's server name")
	}
	return err
}
