// Package demo is what "smtp-tlsproxy demo" puts behind the proxy: throw-away
// certificates, and an SMTP server that prints each message with what the
// PROXY header told about its client.
//
// It is no mail server: it delivers nothing, and takes any password.
package demo

import (
	"fmt"
	"os"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
)

// Names are the server names that the demo has certificates for.
var Names = []string{"localhost", "a.localhost", "b.localhost"}

// Certificates makes a certificate for each of [Names], each in the folder of
// its name below dir, and writes the certificate of their authority to caFile,
// for clients to trust. CaFile must not lie in dir, whose entries are server
// names. The authority's key is forgotten.
func Certificates(dir, caFile string) error {
	ca, err := devcert.NewCA("smtp-tlsproxy demo")
	if err != nil {
		return fmt.Errorf("making the demo's authority: %w", err)
	}
	for _, name := range Names {
		leaf := devcert.Leaf{Names: []string{name}}
		if name == "localhost" {
			// For clients that are pointed at the address.
			leaf.Names = append(leaf.Names, "127.0.0.1", "::1")
		}
		if err := ca.WriteFolder(dir, name, leaf); err != nil {
			return fmt.Errorf("making the certificate of %s: %w", name, err)
		}
	}
	return os.WriteFile(caFile, ca.PEM(), 0o644)
}
