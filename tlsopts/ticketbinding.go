package tlsopts

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"slices"
	"strings"
	"time"
)

// Binding is what a ticket holds for. It resumes only where all of it is the
// same as where it was issued.
type Binding struct {
	ServerName string     // the certificate folder's name
	Context    string     // the listener's; those with another have nothing in common
	ClientAuth ClientAuth // the settings that were applied to the configuration
}

// Bind enables tickets in config and binds them: it sets WrapSession and
// UnwrapSession. It is the last step before config is used or cloned, after
// ClientAuth.Apply. By itself config then issues tickets and resumes nothing;
// for that, ForClient of the result has to be asked for each client.
//
// Names are kept apart by having a configuration for each, bound to its name,
// that an outer configuration's GetConfigForClient finds: crypto/tls asks for a
// configuration always, but not for a certificate when a session of TLS 1.3 is
// resumed. The outer one has to have SessionTicketsDisabled set. That would break
// the handshakes of an inner one that has tickets, but not WrapSession and
// UnwrapSession ("session ticket keys unavailable"); with these it does not
// matter, as the keys of crypto/tls are not used.
//
// Besides the binding a ticket holds for the server name that the client asked
// for, in any case (RFC 6066 section 3 forbids resumption under another): folders
// that serve several names, such as wildcards and the default, do not mix them.
func (t *Tickets) Bind(config *tls.Config, b Binding) *BoundTickets {
	sealer := &ticketSealer{tickets: t, binding: b.digest(config.ClientAuth)}
	config.SessionTicketsDisabled = false
	config.UnwrapSession = func([]byte, tls.ConnectionState) (*tls.SessionState, error) { return nil, nil }
	config.WrapSession = (&resumption{ticketSealer: sealer}).wrap
	return &BoundTickets{sealer}
}

// BoundTickets resumes the sessions of one binding. It is safe for concurrent
// use.
type BoundTickets struct{ sealer *ticketSealer }

// ForClient is the last step of a GetConfigForClient callback: it returns the
// configuration under which a client may resume, given the one that Bind was
// called for or a clone of it. That is config itself, unless the client may have
// a ticket; then it is a copy for this one connection, which remembers when the
// session began. crypto/tls tells WrapSession nothing of what UnwrapSession
// returned, and Lifetime would begin anew with each resumption.
func (b *BoundTickets) ForClient(config *tls.Config, hello *tls.ClientHelloInfo) *tls.Config {
	if !mayResume(config, hello) {
		return config
	}
	r := &resumption{ticketSealer: b.sealer}
	connection := config.Clone()
	connection.WrapSession, connection.UnwrapSession = r.wrap, r.unwrap
	return connection
}

// digest of all fields, each behind its length.
func (b Binding) digest(mode tls.ClientAuthType) [sha256.Size]byte {
	sum := sha256.New()
	clientAuth := b.ClientAuth.digest()
	for _, field := range []string{b.ServerName, b.Context, mode.String(), string(clientAuth[:])} {
		sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(field))))
		sum.Write([]byte(field))
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// digest tells settings apart, but not those that mean the same.
func (a ClientAuth) digest() [sha256.Size]byte {
	if a.Mode == ClientAuthNone || a.Mode == "" {
		return [sha256.Size]byte{}
	}
	sum := sha256.New()
	sum.Write(append([]byte(a.Mode), 0))
	if a.CA != nil {
		sum.Write(a.CA.digest[:])
	}
	pins := slices.Clone(a.Pins)
	slices.SortFunc(pins, func(a, b Pin) int { return strings.Compare(string(a[:]), string(b[:])) })
	for _, pin := range slices.Compact(pins) {
		sum.Write(append([]byte{1}, pin[:]...))
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// Extensions by which a client offers to resume.
const (
	extensionSessionTicket = 35 // RFC 5077, up to TLS 1.2; most often empty
	extensionPreSharedKey  = 41 // RFC 8446 section 4.2.11
)

func mayResume(config *tls.Config, hello *tls.ClientHelloInfo) bool {
	lowest, highest := versionsOf(config)
	if mutualVersion(lowest, highest, hello) == TLS13 {
		return slices.Contains(hello.Extensions, extensionPreSharedKey)
	}
	return slices.Contains(hello.Extensions, extensionSessionTicket)
}

// ticketSealer makes and opens tickets of one binding. A ticket is
//
//	version (1 byte), name of the key (16), nonce (12), ciphertext, tag (16)
//
// The plaintext is the time of the full handshake in seconds and the encoding
// of crypto/tls. Authenticated besides are version and name, the binding, and
// the server name that the client asked for.
type ticketSealer struct {
	tickets *Tickets
	binding [sha256.Size]byte
}

const (
	ticketVersion = 1
	ticketHeader  = 1 + len(keyName{})
	// maxTicket is below the 64 KiB that a ticket's length field allows. Only
	// that of a client with a huge certificate chain is larger.
	maxTicket = 48 << 10
)

// noTicket is for sessions that do not resume. TLS 1.3 wants a ticket of at
// least a byte (RFC 8446 section 4.6.1).
var noTicket = []byte{0}

func (s *ticketSealer) associated(header []byte, state *tls.ConnectionState) []byte {
	data := make([]byte, 0, ticketHeader+len(s.binding)+len(state.ServerName))
	data = append(data, header...)
	data = append(data, s.binding[:]...)
	return append(data, strings.ToLower(state.ServerName)...)
}

func (s *ticketSealer) seal(plaintext []byte, state *tls.ConnectionState) []byte {
	key := &s.tickets.keyring().keys[0]
	ticket := make([]byte, ticketHeader, ticketHeader+len(plaintext)+key.aead.Overhead())
	ticket[0] = ticketVersion
	copy(ticket[1:], key.name[:])
	return key.aead.Seal(ticket, nil, plaintext, s.associated(ticket, state))
}

// open returns nil for anything but a ticket of this binding.
func (s *ticketSealer) open(ticket []byte, state *tls.ConnectionState) []byte {
	if len(ticket) < ticketHeader || len(ticket) > maxTicket || ticket[0] != ticketVersion {
		return nil
	}
	header := ticket[:ticketHeader]
	key := s.tickets.keyring().find(keyName(header[1:]))
	if key == nil {
		return nil
	}
	plaintext, err := key.aead.Open(nil, nil, ticket[ticketHeader:], s.associated(header, state))
	if err != nil {
		return nil
	}
	return plaintext
}

// resumption is of one connection, but for the one of Bind that only issues
// tickets.
type resumption struct {
	*ticketSealer
	began int64 // of the session offered, in seconds; of several the first to begin
}

const timeSize = 8 // bytes of the time before the session's state

// wrap fits tls.Config.WrapSession. An error of it would end the connection.
func (r *resumption) wrap(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
	began := r.tickets.now().Unix()
	if state.DidResume {
		if r.began == 0 {
			return noTicket, nil
		}
		began = r.began
	}
	encoded, err := session.Bytes()
	if err != nil || len(encoded) > maxTicket-1<<10 {
		return noTicket, nil
	}
	plaintext := binary.BigEndian.AppendUint64(make([]byte, 0, timeSize+len(encoded)), uint64(began))
	return r.seal(append(plaintext, encoded...), &state), nil
}

// unwrap fits tls.Config.UnwrapSession. What is not a good ticket leads to a
// full handshake.
func (r *resumption) unwrap(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
	plaintext := r.open(ticket, &state)
	if len(plaintext) < timeSize {
		return nil, nil
	}
	began := int64(binary.BigEndian.Uint64(plaintext))
	// A replica's clock may be ahead; its keys are known for one step only.
	if age := r.tickets.now().Sub(time.Unix(began, 0)); age >= r.tickets.lifetime {
		return nil, nil
	}
	session, err := tls.ParseSessionState(plaintext[timeSize:])
	if err != nil {
		return nil, nil // of another release of Go
	}
	if r.began == 0 || began < r.began {
		r.began = began
	}
	return session, nil
}
