package tlsopts

import "crypto/tls"

// SealTicket makes a ticket with any plaintext.
func (t *Tickets) SealTicket(plaintext []byte, b Binding, state tls.ConnectionState) []byte {
	s := &ticketSealer{tickets: t, binding: b.digest(tls.NoClientCert)}
	return s.seal(plaintext, &state)
}

// ParseTicketSecrets is what reads a file of secrets.
var ParseTicketSecrets = parseTicketSecrets
