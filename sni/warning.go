package sni

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// warnings tells what is wrong with a pair that is served nevertheless:
// clients that match the key alone (DANE-EE, RFC 7672 section 3.1.1) or do not
// verify at all, as most on port 25, still get their TLS.
func warnings(folder string, cert *tls.Certificate, keyPath string, keyMode fs.FileMode) []string {
	var texts []string
	warn := func(format string, args ...any) { texts = append(texts, fmt.Sprintf(format, args...)) }

	leaf, now := cert.Leaf, time.Now()
	name := folder
	if parent, ok := wildcardParent(folder); ok {
		name = "*." + parent
	}
	// A folder without a dot, such as "default", is there to fall back on.
	if err := leaf.VerifyHostname(name); err != nil && strings.Contains(name, ".") {
		warn("the certificate does not cover the folder's name %s: its names are %s", name, names(leaf.DNSNames))
	}
	if now.After(leaf.NotAfter) {
		warn("the certificate expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(leaf.NotBefore) {
		warn("the certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	texts = append(texts, tlsopts.ChainNotes(cert)...)
	switch mode := keyMode.Perm(); {
	case mode&0o022 != 0:
		warn("the key file %s can be written by others (mode %04o): chmod 0600 it", keyPath, mode)
	case mode&0o004 != 0:
		warn("the key file %s can be read by everyone (mode %04o): chmod 0600 it, or set defaultMode: 0440 in Kubernetes", keyPath, mode)
	}
	return texts
}

func names(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
