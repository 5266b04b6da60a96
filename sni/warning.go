package sni

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

func (r *reading) warn(name, format string, args ...any) {
	r.warnings = append(r.warnings, r.pathOf(name)+": "+fmt.Sprintf(format, args...))
}

// inspect tells what is wrong with a pair that is served nevertheless: clients
// that match the key alone (DANE-EE, RFC 7672 section 3.1.1) or do not verify
// at all, as most on port 25, still get their TLS.
func (r *reading) inspect(file string, cert *tls.Certificate) {
	leaf, now := cert.Leaf, time.Now()
	name := r.folder
	if parent, ok := wildcardParent(r.folder); ok {
		name = "*." + parent
	}
	// A folder without a dot, such as "default", is there to fall back on.
	if err := leaf.VerifyHostname(name); err != nil && strings.Contains(name, ".") {
		r.warn(file, "the certificate does not cover the folder's name %s: its names are %s", name, names(leaf.DNSNames))
	}
	if now.After(leaf.NotAfter) {
		r.warn(file, "the certificate expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if now.Before(leaf.NotBefore) {
		r.warn(file, "the certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	for _, note := range tlsopts.ChainNotes(cert) {
		r.warn(file, "%s", note)
	}
}

// checkMode warns of secrets, in the file that was read last, that are open to
// others. That is no reason not to serve: Kubernetes mounts Secrets with mode 0644.
func (r *reading) checkMode(name string) {
	mode := fs.FileMode(r.look.files[len(r.look.files)-1].stamp.mode).Perm()
	switch {
	case mode&0o022 != 0:
		r.warn(name, "the file can be written by others (mode %04o): chmod 0600 it", mode)
	case mode&0o004 != 0:
		r.warn(name, "the file can be read by everyone (mode %04o): chmod 0600 it, or set defaultMode: 0440 in Kubernetes", mode)
	}
}

func names(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}
