package tlsopts_test

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// fuzzTime is when tickets are tried; most seeds began a second before.
var fuzzTime = time.Unix(1_800_000_000, 0)

// FuzzUnwrapSession has a client send what it likes as a ticket, and tries the
// same as the content of a ticket that was sealed rightly. Nothing is an error,
// as that would end the connection, and nothing that we did not seal resumes.
// The seeds in testdata/fuzz are contents with the state of a session.
func FuzzUnwrapSession(f *testing.F) {
	tickets := openTickets(f, tlsopts.TicketOptions{SecretFile: secretFile(f, secretOne), Time: func() time.Time { return fuzzTime }})
	config := &tls.Config{}
	bound := tickets.Bind(config, tlsopts.Binding{ServerName: "a.example"})
	state := tls.ConnectionState{Version: tls.VersionTLS13, ServerName: "a.example"}
	f.Fuzz(func(t *testing.T, data []byte) {
		connection := bound.ForClient(config, &tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}, Extensions: []uint16{41}})
		if session, err := connection.UnwrapSession(data, state); session != nil || err != nil {
			t.Errorf("%v, %v out of nothing", session, err)
		}
		ticket := tickets.SealTicket(data, tlsopts.Binding{ServerName: "a.example"}, state)
		session, err := connection.UnwrapSession(ticket, state)
		if err != nil {
			t.Errorf("error %v", err)
		}
		if session == nil {
			return
		}
		encoded, err := session.Bytes()
		if err == nil && !bytes.Equal(encoded, data[8:]) && len(encoded) > len(data) {
			t.Errorf("% x out of % x", encoded, data)
		}
		for _, other := range []tls.ConnectionState{{ServerName: "b.example"}, {}} {
			if session, _ := connection.UnwrapSession(ticket, other); session != nil {
				t.Errorf("resumed under the name %q", other.ServerName)
			}
		}
	})
}

func BenchmarkTickets(b *testing.B) {
	tickets := openTickets(b, tlsopts.TicketOptions{})
	config := &tls.Config{}
	bound := tickets.Bind(config, tlsopts.Binding{ServerName: "a.example"})
	state := tls.ConnectionState{Version: tls.VersionTLS13, ServerName: "a.example"}
	hello := &tls.ClientHelloInfo{SupportedVersions: []uint16{tls.VersionTLS13}, Extensions: []uint16{41}}
	session, err := tls.ParseSessionState(append(bytes.Clone(sessionBegin), bytes.Repeat([]byte{0}, 12)...))
	noErr(b, err)
	ticket, err := config.WrapSession(state, session)
	noErr(b, err)
	b.Run("copy", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			bound.ForClient(config, hello)
		}
	})
	b.Run("wrap", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = config.WrapSession(state, session)
		}
	})
	b.Run("unwrap", func(b *testing.B) {
		b.ReportAllocs()
		connection := bound.ForClient(config, hello)
		for b.Loop() {
			if session, _ := connection.UnwrapSession(ticket, state); session == nil {
				b.Fatal("no session")
			}
		}
	})
}

// sessionBegin is the encoding of a session of TLS 1.3 up to its secret.
var sessionBegin = []byte("\x03\x04\x01\x13\x01\x00\x00\x00\x00\x6b\x49\xd2\x00\x20secret-secret-secret-secret-secr")
