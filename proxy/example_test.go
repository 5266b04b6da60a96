package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/proxy"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// A submission port whose backend listens on loopback, and expects the PROXY
// header there.
func ExampleListen() {
	certs, err := sni.Open(certificates().dir, sni.Options{Default: "mail.example"}) // /certs
	if err != nil {
		log.Fatal(err)
	}
	defer certs.Close()
	srv, err := proxy.Listen(proxy.Config{
		Listeners: []proxy.Listener{{
			Name:         "submission",
			Address:      "127.0.0.1:0", // ":587"
			Mode:         proxy.ModeSTARTTLS,
			TLS:          tlsopts.Options{Profile: tlsopts.Intermediate},
			Certificates: certs,
			Hostname:     "mail.example",
			Backend: proxy.Backend{
				Name:       "mta",
				Addresses:  []string{"127.0.0.1:10587"},
				ClientInfo: proxy.ProxyV2,
				ProxyTLVs:  []string{"ssl", "authority", "unique_id", "crc32c"},
			},
		}},
		Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- srv.Serve() }()

	client, err := net.Dial("tcp", srv.Addr("submission").String())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	greeting, err := bufio.NewReader(client).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(greeting[:len("220 mail.example ESMTP ready")])

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		log.Print("sessions were cut: ", err)
	}
	fmt.Println(errors.Is(<-served, proxy.ErrServerClosed))
	// Output:
	// 220 mail.example ESMTP ready
	// true
}
