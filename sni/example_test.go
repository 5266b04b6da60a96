package sni_test

import (
	"crypto/tls"
	"fmt"
	"log"
	"os"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// demoCerts makes a directory as an operator would have it.
func demoCerts() (dir string) {
	dir, err := os.MkdirTemp("", "certs")
	if err != nil {
		log.Fatal(err)
	}
	ca, err := devcert.NewCA("example")
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"mail.example.com", "*.example.net"} {
		if err := ca.WriteFolder(dir, name, devcert.Leaf{Names: []string{name}}); err != nil {
			log.Fatal(err)
		}
	}
	return dir
}

func Example() {
	dir := demoCerts()
	defer os.RemoveAll(dir)

	certs, err := sni.Open(dir, sni.Options{
		Default: "mail.example.com",
		Events: sni.Events{
			Renewed: func(folder string, id *sni.Identity) { log.Print("renewed ", folder) },
			Failed:  func(folder string, err error) { log.Print(err) },
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer certs.Close()

	config := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		GetCertificate:         certs.GetCertificate,
		SessionTicketsDisabled: true, // tickets would resume under any name
	}
	for _, name := range []string{"MAIL.example.com", "mx.example.net", "unknown.example"} {
		cert, err := config.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(name, "gets", cert.Leaf.DNSNames[0])
	}
	// Output:
	// MAIL.example.com gets mail.example.com
	// mx.example.net gets *.example.net
	// unknown.example gets mail.example.com
}

// A caller with a policy of its own looks up first and loads then.
func ExampleStore_Lookup() {
	dir := demoCerts()
	defer os.RemoveAll(dir)

	certs, err := sni.Open(dir, sni.Options{Default: "mail.example.com"})
	if err != nil {
		log.Fatal(err)
	}
	defer certs.Close()

	for _, name := range []string{"mail.example.com", "mx.example.net", "../etc", ""} {
		match := certs.Lookup(name)
		fmt.Printf("%q: name %s, match %s, refuse if strict: %v\n", name, match.Name, match.Kind, match.Unrecognized())
	}
	// Output:
	// "mail.example.com": name known, match exact, refuse if strict: false
	// "mx.example.net": name known, match wildcard, refuse if strict: false
	// "../etc": name unusable, match default, refuse if strict: true
	// "": name absent, match default, refuse if strict: false
}
