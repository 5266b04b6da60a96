package tlsopts

import "fmt"

// CipherOrder says whose order of cipher suites decides for TLS 1.2 and below.
// The zero value means "not set": ServerOrder. In a file it is the value of
// honor_cipher_order, the option honorCipherOrder of Node.js and
// ssl_prefer_server_ciphers of nginx.
//
// For TLS 1.3, crypto/tls decides by what both sides compute fastest; all of its
// suites are sound.
type CipherOrder string

const (
	// ServerOrder (true) takes the first suite of ours that the client offers.
	ServerOrder CipherOrder = "true"
	// ClientOrder (false) takes the first suite of the client's that we have.
	ClientOrder CipherOrder = "false"
)

// UnmarshalText reads true or false, or as nginx writes them, on or off.
func (c *CipherOrder) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true", "on":
		*c = ServerOrder
	case "false", "off":
		*c = ClientOrder
	default:
		return fmt.Errorf("%q is neither true (our order of cipher suites decides) nor false (the client's)", text)
	}
	return nil
}

func (c CipherOrder) check() error {
	return c.UnmarshalText([]byte(c))
}
