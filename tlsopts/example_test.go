package tlsopts_test

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func ExampleParseCiphers() {
	list, err := tlsopts.ParseCiphers("ECDHE+AESGCM:DHE+AESGCM:AES256-SHA:!ECDSA")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(list)
	for _, note := range list.Notes {
		fmt.Println(note)
	}

	_, err = tlsopts.ParseCiphers("ECDHE+AESGMC")
	fmt.Println(err)
	// Output:
	// ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA
	// DHE+AESGCM: passed over, Go has none of these suites
	// AES256-SHA: weak, no forward secrecy: whoever gets the key can read recorded sessions (RFC 9325 section 4.1)
	// "AESGMC" is not the name of a cipher suite or keyword: did you mean "AESGCM"?
}

// A listener that prefers ChaCha20 also for clients that do not.
func ExampleOptions_Server() {
	certificates := func(*tls.ClientHelloInfo) ([]*tls.Certificate, error) {
		return []*tls.Certificate{p256Cert(), rsaCert()}, nil // by hello.ServerName
	}
	options := tlsopts.Options{Ciphers: "ECDHE+CHACHA20:ECDHE+AESGCM"}
	server, err := options.Server(tlsopts.ServerConfig{Certificates: certificates})
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server.Config())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()

	client, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	fmt.Println(tlsopts.CipherSuiteName(client.ConnectionState().CipherSuite))
	// Output: ECDHE-ECDSA-CHACHA20-POLY1305
}

func ExampleOptions_Config() {
	_, err := tlsopts.Options{MaxVersion: tlsopts.TLS11, Curves: "P256"}.Config()
	fmt.Println(err)
	// Output:
	// curves: "P256" is not the name of a curve: did you mean "P-256"?
	// max_version TLSv1.1 is below TLSv1.2, the lowest of profile intermediate: set min_version as well, or another profile
}

func ExampleOptions_Merge() {
	listener := tlsopts.Options{MinVersion: tlsopts.TLS12, Curves: "X25519:P-256"}
	folder := tlsopts.Options{Profile: tlsopts.Modern}
	fmt.Printf("%+v\n", folder.Merge(listener))
	// Output: {Profile:modern MinVersion: MaxVersion: Ciphers: HonorCipherOrder: Curves:X25519:P-256 ALPN:}
}

func ExampleOptions_Describe() {
	alpn, err := tlsopts.ALPNOf("smtp", "lmtp")
	if err != nil {
		fmt.Println(err)
		return
	}
	options := tlsopts.Options{MaxVersion: tlsopts.TLS12, Ciphers: "ECDHE+AESGCM+aRSA:DHE+AESGCM", Curves: "X25519:P-256", ALPN: alpn}
	lines, err := options.Describe()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.Join(lines, "\n"))
	// Output:
	// profile       intermediate
	// versions      TLSv1.2
	// ciphers       ECDHE-RSA-AES256-GCM-SHA384, ECDHE-RSA-AES128-GCM-SHA256
	// cipher order  the server's
	// curves        X25519, P-256 (in this order)
	// ALPN          smtp, lmtp (a client that offers only other names is refused)
	// note: DHE+AESGCM: passed over, Go has none of these suites
}
