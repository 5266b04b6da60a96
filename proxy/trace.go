package proxy

import (
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// trace is what the header of each message tells of the session; nil for none.
func (s *session) trace() *starttls.Trace {
	if !s.to.TraceHeader {
		return nil
	}
	t := &starttls.Trace{Client: s.client.Addr()}
	if s.tls != nil {
		t.ServerName, _ = sni.ServerName(s.state.ServerName)
		t.TLSVersion = tlsopts.Version(s.state.Version).String()
		t.Cipher = tlsopts.CipherSuiteName(s.state.CipherSuite)
	}
	return t
}
