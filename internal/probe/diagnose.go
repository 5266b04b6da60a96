package probe

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/starttls"
)

// beginnings tell which protocol the first bytes of a server belong to.
var beginnings = []struct{ prefix, protocol string }{
	{"\x16\x03", "TLS"}, {"\x15\x03", "TLS"}, {"HTTP/", "HTTP"}, {"SSH-", "SSH"},
	{"* OK", "IMAP"}, {"* PREAUTH", "IMAP"}, {"* BYE", "IMAP"}, {"+OK", "POP3"}, {"RFB ", "VNC"},
	{"220", "SMTP"}, {"421", "SMTP"}, {"450", "SMTP"}, {"451", "SMTP"}, {"500", "SMTP"}, {"502", "SMTP"}, {"503", "SMTP"}, {"521", "SMTP"}, {"550", "SMTP"}, {"554", "SMTP"},
}

// protocolOf is the protocol of a server's first bytes, or "".
func protocolOf(first []byte) string {
	for _, b := range beginnings {
		if bytes.HasPrefix(first, []byte(b.prefix)) {
			return b.protocol
		}
	}
	return ""
}

// firstLine is the first line of what came, for people.
func firstLine(first []byte) string {
	line, _, _ := bytes.Cut(first, []byte("\n"))
	return shown(string(line))
}

const (
	mendSTARTTLS = "use --starttls, and STARTTLS in mail clients, for this port"
	mendImplicit = "leave --starttls out, or give --implicit; in mail clients choose SSL/TLS for this port"
	mendPROXY    = "a port that waits for a PROXY protocol header does this: probe the proxy in front of it; else look whether this client's address is blocked"
	mendPort     = "look which program listens there, and whether the port is right: 465 for implicit TLS, 587 or 25 for STARTTLS"
)

// wrongProtocol is the finding for a port where something else is spoken than
// the mode wants, nil where the bytes do not tell.
func (s *session) wrongProtocol(first []byte) *Finding {
	switch protocol := protocolOf(first); protocol {
	case "":
		return nil
	case "SMTP":
		if first[0] != '2' {
			return &Finding{Level: Fail, ID: "greeting_refuses", Text: fmt.Sprintf("the server answers in plain SMTP, and refuses: %s", firstLine(first)),
				Mend: "the port speaks STARTTLS: " + mendSTARTTLS + "; and look into the server's log, or whether the port waits for a PROXY protocol header (Postfix answers 421 without one)"}
		}
		return &Finding{Level: Fail, ID: "plain_smtp", Text: fmt.Sprintf("the server speaks plain SMTP, not TLS, when a client connects: %s", firstLine(first)), Mend: mendSTARTTLS}
	case "TLS":
		return &Finding{Level: Fail, ID: "tls_port", Text: "the server speaks TLS from the first byte here, not STARTTLS", Mend: mendImplicit}
	default:
		return &Finding{Level: Fail, ID: "not_smtp", Text: fmt.Sprintf("the server speaks %s, not SMTP: %s", protocol, firstLine(first)), Mend: mendPort}
	}
}

func (s *session) connectFault(err error) *Finding {
	f := &Finding{Level: Fail, ID: "connect"}
	switch {
	case isTimeout(err), errors.Is(err, syscall.ETIMEDOUT), timedOut(err):
		f.Text = fmt.Sprintf("no answer to the connection within %v", s.Timeout)
		f.Mend = "a firewall drops it, or the address is wrong: many providers block port 25 towards the outside"
	case errors.Is(err, syscall.ECONNREFUSED):
		f.Text, f.Mend = "the connection was refused: nothing listens on this port", "start the server, and look on which address and port it listens (ss -ltnp)"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		f.Text, f.Mend = "there is no route to this address from here", "this machine may have no IPv6, or no IPv4; else look at the network"
	default:
		f.Text = "connecting: " + shown(err.Error())
	}
	return f
}

// timedOut reports the dialer's own timeout.
func timedOut(err error) bool {
	failed, ok := errors.AsType[net.Error](err)
	return ok && failed.Timeout()
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// greetingFault tells why there is no greeting.
func (s *session) greetingFault(text []byte, err error) *Finding {
	if s.state.HandshakeComplete {
		if f := alertFault(err); f != nil {
			return f // such as that for a client certificate that is missing
		}
		if f := s.wrongProtocol(text); f != nil && f.ID == "not_smtp" {
			return f
		}
	} else if f := s.wrongProtocol(text); f != nil && f.ID != "plain_smtp" {
		return f
	}
	switch {
	case errors.Is(err, starttls.ErrReply):
		return &Finding{Level: Fail, ID: "greeting_malformed", Text: fmt.Sprintf("the server's greeting is no SMTP reply (%s): \"%s\"", syntaxOf(err), firstLine(text)), Mend: mendPort}
	case !s.state.HandshakeComplete:
		if f := s.askTLS(); f != nil {
			return f
		}
	}
	f := &Finding{Level: Fail, ID: "greeting_missing", Mend: mendPROXY}
	switch {
	case isTimeout(err):
		f.Text = fmt.Sprintf("no greeting within %v", s.Timeout)
		f.Mend = "the server waits for something (" + mendPROXY + "), or delays on purpose: give a longer --timeout"
		if s.state.HandshakeComplete {
			f.Text += " of the handshake"
			f.Mend = "this may be no mail server (HTTPS says nothing by itself); " + f.Mend
		}
	case hungUp(err):
		f.Text = "the server closed the connection without a greeting"
	default:
		f.Text = "reading the greeting: " + shown(err.Error())
	}
	return f
}

// askTLS begins TLS on a connection of its own where no greeting came: the port
// may speak nothing but TLS.
func (s *session) askTLS() *Finding {
	l, err := s.open(s.ctx, s.out.Address)
	if err != nil {
		return nil
	}
	defer l.close()
	_, _ = l.secure(s.config(s.ServerName)) // the answer tells, not the outcome
	switch protocolOf(l.tap.first) {
	case "TLS", "HTTP":
		return s.wrongProtocol(l.tap.first)
	}
	return nil
}

// syntaxOf is what is wrong with a reply.
func syntaxOf(err error) string {
	return shown(strings.TrimPrefix(err.Error(), starttls.ErrReply.Error()+": "))
}

// replyFault tells why a command has no good reply.
func (s *session) replyFault(command string, text []byte, err error) *Finding {
	f := &Finding{Level: Fail, ID: "reply"}
	switch {
	case errors.Is(err, starttls.ErrReply):
		f.Text = fmt.Sprintf("the answer to %s is no SMTP reply (%s): \"%s\"", command, syntaxOf(err), firstLine(text))
		f.Mend = mendPort
	case isTimeout(err):
		f.Text, f.Mend = fmt.Sprintf("no whole reply to %s within %v", command, s.Timeout), "look into the server's log; a longer --timeout waits for slow servers"
	case hungUp(err):
		f.Text, f.Mend = fmt.Sprintf("the server closed the connection in place of a reply to %s", command), "look into the server's log, and into that of its backend"
	default:
		if f := alertFault(err); f != nil {
			return f
		}
		f.Text = fmt.Sprintf("after %s: %s", command, shown(err.Error()))
	}
	return f
}

// handshakeFault tells why the handshake failed.
func (s *session) handshakeFault(err error) *Finding {
	first := s.link.tap.first
	if f := s.wrongProtocol(first); f != nil && protocolOf(first) != "TLS" {
		if s.Mode == STARTTLS && protocolOf(first) == "SMTP" {
			f = &Finding{Level: Fail, ID: "handshake", Text: "the server goes on in plain text after its 220 to STARTTLS: " + firstLine(first), Mend: "look at what answers STARTTLS: a firewall that inspects SMTP may do this"}
		}
		return f
	}
	if f := alertFault(err); f != nil {
		if f.ID == "alert_handshake" && s.asked { // TLS 1.2 has no alert of its own for it
			f.ID, f.Text, f.Mend = "alert_client_certificate", "the server asked for a client certificate, and does not go on without (alert handshake_failure)", mendClientCertificate
		}
		return f
	}
	f := &Finding{Level: Fail, ID: "handshake"}
	switch {
	case isTimeout(err) && len(first) == 0:
		f.Text = fmt.Sprintf("no answer to the ClientHello within %v", s.Timeout)
		f.Mend = "the port does not speak TLS, or waits for a PROXY protocol header: probe the proxy in front of it; is it a STARTTLS port with a delay? " + mendSTARTTLS
	case isTimeout(err):
		f.Text, f.Mend = fmt.Sprintf("the handshake did not end within %v", s.Timeout), "the server is overloaded, or large packets are lost on the way (MTU)"
	case hungUp(err) && len(first) == 0:
		f.Text, f.Mend = "the server closed the connection when the handshake began", "it has no certificate, refuses this server name, or blocks this client; "+mendPROXY
	case hungUp(err):
		f.Text, f.Mend = "the server closed the connection within the handshake", "look into the server's log"
	case len(first) > 0 && protocolOf(first) == "":
		f.ID, f.Text, f.Mend = "not_smtp", fmt.Sprintf("the server does not speak TLS here; it answers \"%s\"", firstLine(first)), mendPort
	default:
		f.Text, f.Mend = "the handshake failed: "+shown(err.Error()), "look into the server's log"
	}
	return f
}

// alerts are what a server refuses a handshake with, by its number (RFC 8446
// section 6), in words.
var alerts = []struct {
	alert          tls.AlertError
	id, name       string
	text, mendment string
}{
	{112, "alert_server_name", "unrecognized_name", "the server has no certificate for this server name",
		"give the name of a server that it serves with --servername; behind smtp-tlsproxy: make a folder for the name, or set unknown_sni: fallback"},
	{120, "alert_alpn", "no_application_protocol", "the server refuses the ALPN names that were offered", "leave --alpn out, or offer smtp"},
	{70, "alert_version", "protocol_version", "the server takes none of TLSv1 to TLSv1.3", "look at the server's TLS versions"},
	{40, "alert_handshake", "handshake_failure", "the server found nothing that both sides can do",
		"look at its cipher suites, its groups, and whether it has a certificate that it can read"},
	{116, "alert_client_certificate", "certificate_required", "the server wants a client certificate", mendClientCertificate},
	{42, "alert_client_certificate", "bad_certificate", "the server refuses to go on without a good client certificate", mendClientCertificate},
	{80, "alert_internal", "internal_error", "the server has a fault of its own",
		"look into the server's log: most often it can not read its certificate or key"},
}

const mendClientCertificate = "this port is for clients with a certificate; the probe has none"

// alertFault is the finding for an alert of the server's, nil for other errors.
func alertFault(err error) *Finding {
	text := alertText(err)
	if text == "" {
		return nil
	}
	for _, a := range alerts {
		if text == a.alert.Error() {
			return &Finding{Level: Fail, ID: a.id, Text: fmt.Sprintf("%s (alert %s)", a.text, a.name), Mend: a.mendment}
		}
	}
	return &Finding{Level: Fail, ID: "alert", Text: "the server ended the handshake: " + shown(strings.TrimPrefix(text, "tls: ")), Mend: "look into the server's log"}
}

// alertText is what crypto/tls calls an alert of the server's, "" for other
// errors. The type for these is not exported; their texts are, by AlertError.
func alertText(err error) string {
	failed, ok := errors.AsType[*net.OpError](err)
	if !ok || failed.Op != "remote error" {
		return ""
	}
	return failed.Err.Error()
}

// alertName is the alert's name for few words.
func alertName(text string) string {
	for _, a := range alerts {
		if text == a.alert.Error() {
			return "alert " + a.name
		}
	}
	return shown(strings.TrimPrefix(text, "tls: "))
}
