package demo

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/emersion/go-smtp"
)

// sendTimeout bounds a message of the demo's own.
const sendTimeout = 30 * time.Second

// Send delivers a message to the proxy as a mail client does, over implicit
// TLS or, with starttls, after STARTTLS, and verifies its certificate as trust
// says. It returns what was negotiated.
func Send(address string, starttls bool, trust *tls.Config) (tls.ConnectionState, error) {
	dial := smtp.DialTLS
	if starttls {
		dial = smtp.DialStartTLS
	}
	client, err := dial(address, trust)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer client.Close()
	client.CommandTimeout = sendTimeout
	client.SubmissionTimeout = sendTimeout
	if err := client.Hello("demo.localhost"); err != nil {
		return tls.ConnectionState{}, err
	}
	state, _ := client.TLSConnectionState()
	from, to := "demo@"+trust.ServerName, "you@"+trust.ServerName
	if err := client.Mail(from, nil); err != nil {
		return state, err
	}
	if err := client.Rcpt(to, nil); err != nil {
		return state, err
	}
	message, err := client.Data()
	if err != nil {
		return state, err
	}
	_, err = fmt.Fprintf(message, "From: <%s>\r\nTo: <%s>\r\nSubject: Hello, %s\r\n\r\nThis came through TLS for %s.\r\n", from, to, trust.ServerName, trust.ServerName)
	if err != nil {
		return state, err
	}
	if err := message.Close(); err != nil {
		return state, err
	}
	return state, client.Quit()
}
