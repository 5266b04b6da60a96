package tlsopts_test

import (
	"crypto/tls"
	"log"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// A server of two names, under each of which sessions resume on their own.
func ExampleTickets_Bind() {
	tickets, err := tlsopts.OpenTickets(tlsopts.TicketOptions{SecretFile: "/secrets/tickets"})
	if err != nil {
		log.Print(err)
		return
	}
	defer tickets.Close()

	auth := tlsopts.ClientAuth{Mode: tlsopts.ClientAuthRequest}
	configs := make(map[string]*tls.Config) // one for each certificate folder
	bound := make(map[string]*tlsopts.BoundTickets)
	for _, name := range []string{"mail.example.com", "mail.example.net"} {
		config, err := tlsopts.Options{}.Config()
		if err != nil {
			log.Print(err)
			return
		}
		if err := auth.Apply(config); err != nil {
			log.Print(err)
			return
		}
		bound[name] = tickets.Bind(config, tlsopts.Binding{ServerName: name, Context: "submission", ClientAuth: auth})
		configs[name] = config // with its certificate
	}

	outer, err := tlsopts.Options{}.Config() // has SessionTicketsDisabled set
	if err != nil {
		log.Print(err)
		return
	}
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		config, ok := configs[hello.ServerName]
		if !ok {
			return nil, nil // no tickets for other names
		}
		return bound[hello.ServerName].ForClient(config, hello), nil
	}
}
