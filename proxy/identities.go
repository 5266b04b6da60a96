package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/metrics"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// hello is what a session remembers of its ClientHello.
type hello struct {
	serverName   string               // as the client sent it
	certificates []*tls.Certificate   // that may serve it
	refused      bool                 // the name has no certificate, and this listener serves no other
	failed       error                // no certificate could be loaded
	info         *tls.ClientHelloInfo // until the handshake succeeded
}

// identities are the TLS configurations of a listener, one for all names or,
// where sessions resume, one for each folder. All are made once and then never
// changed.
type identities struct {
	*Listener
	config  *tls.Config     // to begin handshakes with
	shared  *tlsopts.Server // for every folder, without tickets
	folders sync.Map        // folder name → *tlsopts.Server with tickets
}

func newIdentities(l *Listener) (*identities, error) {
	i := &identities{Listener: l}
	var err error
	if i.shared, err = i.server("", nil); err != nil {
		return nil, err
	}
	i.config = i.shared.Config().Clone()
	i.config.GetConfigForClient = i.configForClient
	return i, nil
}

func (i *identities) server(folder string, tickets *tlsopts.Tickets) (*tlsopts.Server, error) {
	return i.TLS.Server(tlsopts.ServerConfig{
		Certificates: func(info *tls.ClientHelloInfo) ([]*tls.Certificate, error) {
			return helloOf(info).certificates, nil
		},
		ClientAuth: i.ClientAuth,
		Tickets:    tickets,
		ServerName: folder,
		Context:    i.TicketContext,
		KeyLog:     i.KeyLog,
	})
}

func helloOf(info *tls.ClientHelloInfo) *hello { return &info.Conn.(*clientConn).session.hello }

// configForClient answers a ClientHello. crypto/tls asks it also where a
// session resumes, and then for no certificate. Without a certificate the
// client gets the alert unrecognized_name; an error is internal_error.
func (i *identities) configForClient(info *tls.ClientHelloInfo) (*tls.Config, error) {
	h := helloOf(info)
	h.serverName, h.info = info.ServerName, info
	match := i.Certificates.Lookup(info.ServerName)
	// Counted last: only a folder that was loaded has a series.
	defer func() { info.Conn.(*clientConn).session.srv.metrics.SNIRequest(domain(match)) }()
	if i.RejectUnknownSNI && match.Unrecognized() {
		h.refused = true
		return i.shared.ConfigForClient(info)
	}
	var folder string
	if folder, h.failed = i.find(info, match); h.failed != nil {
		return nil, h.failed
	}
	if folder == "" {
		h.refused = true
		return i.shared.ConfigForClient(info)
	}
	server, err := i.of(folder)
	if err != nil {
		return nil, err
	}
	return server.ConfigForClient(info)
}

// find loads the certificate of the first folder that has a usable one: exact,
// wildcard, default. Without any folder it returns none.
func (i *identities) find(info *tls.ClientHelloInfo, match sni.Match) (folder string, failed error) {
	for ; match.Kind != sni.None; match = match.Fallback() {
		cert, err := i.Certificates.Certificate(info.Context(), match)
		if err == nil {
			helloOf(info).certificates = []*tls.Certificate{cert}
			return match.Folder, nil
		}
		if failed == nil {
			failed = err
		}
	}
	return "", failed
}

// of returns the server for a folder.
func (i *identities) of(folder string) (*tlsopts.Server, error) {
	if i.Tickets == nil {
		return i.shared, nil
	}
	if server, ok := i.folders.Load(folder); ok {
		return server.(*tlsopts.Server), nil
	}
	server, err := i.server(folder, i.Tickets)
	if err != nil {
		return nil, err
	}
	kept, _ := i.folders.LoadOrStore(folder, server)
	return kept.(*tlsopts.Server), nil
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
