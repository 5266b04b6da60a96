package probe

import (
	"fmt"
	"strings"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// unknownName is a server name that nobody has a certificate for (RFC 6761
// section 6.4).
const unknownName = "unknown.smtp-tlsproxy-probe.invalid"

// tries are the connections besides the session, as far as they are asked for.
func (s *session) tries() {
	if s.Options.Versions {
		s.tryVersions()
	}
	if s.Options.SNI {
		s.out.SNI = []ServerNameTry{s.tryServerName(""), s.tryServerName(unknownName)}
	}
	if s.Options.Injection {
		s.tryInjection()
	}
}

// tryVersions offers each version alone.
func (s *session) tryVersions() {
	var old []string
	for _, version := range []tlsopts.Version{tlsopts.TLS10, tlsopts.TLS11, tlsopts.TLS12, tlsopts.TLS13} {
		config := s.config(s.ServerName)
		config.MinVersion, config.MaxVersion = uint16(version), uint16(version)
		try := VersionTry{Version: version.String()}
		l, state, err := s.tryHandshake(s.ctx, s.out.Address, config)
		if err == nil {
			l.leave(s.Mode)
			try.Accepted, try.Text = true, tlsopts.CipherSuiteName(state.CipherSuite)
			if version < tlsopts.TLS12 {
				old = append(old, version.String())
			}
		} else {
			try.Text = why(err)
		}
		s.out.Versions = append(s.out.Versions, try)
	}
	if len(old) > 0 {
		s.found(Finding{Level: Warn, ID: "version_deprecated", Text: fmt.Sprintf("the server still takes %s, which is deprecated (RFC 8996)", strings.Join(old, " and ")),
			Mend: "switch it off, unless old devices need it (smtp-tlsproxy: profile: intermediate)"})
	}
}

// tryServerName sees what is served for another server name, "" for none.
func (s *session) tryServerName(name string) ServerNameTry {
	try := ServerNameTry{ServerName: name, Names: []string{}}
	l, state, err := s.tryHandshake(s.ctx, s.out.Address, s.config(name))
	if err != nil {
		try.Text = why(err)
		return try
	}
	l.leave(s.Mode)
	leaf := state.PeerCertificates[0]
	all := namesOf(leaf)
	try.Accepted, try.Text, try.Names, try.Same = true, nameOf(leaf), all[:min(len(all), maxNames)], leaf.Equal(s.chain[0])
	return try
}

// why puts the failure of a try into few words.
func why(err error) string {
	if text := alertText(err); text != "" {
		return alertName(text)
	}
	switch {
	case isTimeout(err):
		return "no answer in time"
	case hungUp(err):
		return "the server closed the connection"
	}
	return shown(err.Error())
}

// tryInjection sends a NOOP behind STARTTLS in one packet, as an attacker in the
// middle can, and then says QUIT under TLS. A server that kept the NOOP answers
// it first, with 250, and takes what the attacker said for the client's
// (CVE-2011-0411). No time is measured, and NOOP does nothing.
func (s *session) tryInjection() {
	if s.Mode != STARTTLS {
		s.out.Injection = &InjectionTry{Text: "not tried: with implicit TLS nothing comes before TLS"}
		return
	}
	accepted, text := s.inject()
	s.out.Injection = &InjectionTry{Accepted: accepted, Text: text}
	if accepted {
		s.found(Finding{Level: Fail, ID: "injection", Text: "the server executes a command that was sent before TLS as if it came under it (CVE-2011-0411): an attacker can put commands into the sessions of others",
			Mend: "update the server, or put smtp-tlsproxy in front of it"})
	}
}

func (s *session) inject() (accepted bool, text string) {
	l, err := s.open(s.ctx, s.out.Address)
	if err != nil {
		return false, "no connection: " + why(err)
	}
	defer l.close()
	if _, err = l.greeting(); err == nil {
		_, err = l.say("EHLO "+l.ehlo, maxEHLOReply)
	}
	if err != nil {
		return false, "no answer before STARTTLS: " + why(err)
	}
	reply, err := l.say("STARTTLS\r\nNOOP", maxReply)
	switch {
	case err != nil:
		return false, "refused: " + why(err)
	case reply.Code != 220:
		return false, "refused: " + replyOf(reply).String()
	}
	if _, err := l.secure(s.config(s.ServerName)); err != nil {
		return false, "refused: the handshake ended with: " + why(err)
	}
	reply, err = l.say("QUIT", maxReply)
	switch {
	case err == nil && reply.Code == 221:
		return false, "dropped: the first reply under TLS was that to QUIT"
	case len(reply.Text) > 0 && strings.HasPrefix(string(reply.Text), "250"):
		return true, "executed: the first reply under TLS was " + firstLine(reply.Text)
	case err == nil:
		return false, "refused under TLS: " + replyOf(reply).String()
	}
	return false, "refused: after the handshake, " + why(err)
}
