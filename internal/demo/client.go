package demo

import (
	"github.com/emersion/go-smtp"
	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// client is what the PROXY header tells of a client.
type client struct {
	address, destination string
	tls                  bool
	version, cipher      string
	serverName           string // AUTHORITY, the SNI
	sessionID            string // UNIQUE_ID
	name                 string // what it said in EHLO
}

// clientOf reads the header of a connection, which came before the greeting.
// The listener demands one; without it the zero client is returned.
func clientOf(c *smtp.Conn) client {
	conn, ok := c.Conn().(*proxyproto.Conn)
	if !ok || conn.ProxyHeader() == nil {
		return client{}
	}
	// The addresses are the header's, or with LOCAL the socket's.
	told := client{
		address:     conn.RemoteAddr().String(),
		destination: conn.LocalAddr().String(),
		name:        c.Hostname(),
	}
	tlvs, err := conn.ProxyHeader().TLVs()
	if err != nil {
		return told
	}
	for _, tlv := range tlvs {
		switch tlv.Type {
		case proxyproto.PP2_TYPE_AUTHORITY:
			told.serverName = string(tlv.Value)
		case proxyproto.PP2_TYPE_UNIQUE_ID:
			told.sessionID = string(tlv.Value)
		}
	}
	if ssl, ok := tlvparse.FindSSL(tlvs); ok && ssl.ClientSSL() {
		told.tls = true
		told.version, _ = ssl.SSLVersion()
		told.cipher, _ = ssl.SSLCipher()
	}
	return told
}
