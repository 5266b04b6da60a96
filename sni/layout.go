package sni

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// The files of a folder that are not certificates or keys.
const (
	passphraseFile = "passphrase" // of encrypted keys and PKCS #12 files
	clientCAFile   = "ca.pem"     // authorities of client certificates
	optionsFile    = "tls.yaml"   // for Options.FolderOptions
)

// chainAndKey are the names of a pair in two files. They are looked for in
// this order, and only a whole pair counts: certbot's folder has a cert.pem, of
// the leaf alone, without a key.pem.
var chainAndKey = [][2]string{
	{"cert.pem", "key.pem"},
	{"fullchain.pem", "privkey.pem"}, // certbot, lego
	{"tls.crt", "tls.key"},           // Kubernetes Secret of type kubernetes.io/tls
}

// bundle is a chain and its key in one file.
const bundle = "bundle.pem"

// keyTypes are the key types that a second pair may be named after.
var keyTypes = []string{"ecdsa", "ed25519", "rsa"}

// group is the files of one pair, the chain's first.
type group struct {
	files []string
	err   error // the other half is missing
}

func (g group) String() string { return strings.Join(g.files, " and ") }

// Pairs tells which files of a folder are its pairs, from the names of all: the
// chain's file first, then the key's, or one for both. Of a pair of which one
// is missing both are named.
func Pairs(names []string) [][]string {
	var pairs [][]string
	for _, g := range groups(names) {
		pairs = append(pairs, g.files)
	}
	return pairs
}

// groups finds the pairs of a folder by the names of its files: one that is
// called plainly, and one or more called after their key type. Files of other
// names mean nothing (cert-manager's ca.crt, tls-combined.pem, key.der).
func groups(names []string) []group {
	found := plain(names)
	for _, kind := range keyTypes {
		if g, ok := half(names, "cert-"+kind+".pem", "key-"+kind+".pem"); ok {
			found = append(found, g)
		}
	}
	for _, name := range names { // mail.pem.rsa and mail.pem.ecdsa, as HAProxy has them
		if slices.Contains(keyTypes, strings.TrimPrefix(path.Ext(name), ".")) {
			found = append(found, group{files: []string{name}})
		}
	}
	return found
}

// plain finds the pair that is not called after its key type. Of PKCS #12
// files, which have no customary name, all count.
func plain(names []string) []group {
	var broken []group
	for _, pair := range chainAndKey {
		g, ok := half(names, pair[0], pair[1])
		if ok && g.err == nil {
			return []group{g}
		}
		if ok && broken == nil {
			broken = []group{g}
		}
	}
	if slices.Contains(names, bundle) {
		return []group{{files: []string{bundle}}}
	}
	var found []group
	for _, name := range names {
		if ext := path.Ext(name); ext == ".pfx" || ext == ".p12" {
			found = append(found, group{files: []string{name}})
		}
	}
	if found == nil {
		return broken
	}
	return found
}

// half is the pair of a chain and a key, with an error if one is missing; ok is
// false if both are.
func half(names []string, chain, key string) (g group, ok bool) {
	g = group{files: []string{chain, key}}
	hasChain, hasKey := slices.Contains(names, chain), slices.Contains(names, key)
	switch {
	case hasChain && !hasKey:
		g.err = fmt.Errorf("%s is missing beside %s: %w", key, chain, fs.ErrNotExist)
	case hasKey && !hasChain:
		g.err = fmt.Errorf("%s is missing beside %s: %w", chain, key, fs.ErrNotExist)
	}
	return g, hasChain || hasKey
}

// errNoPair names all that would have done.
var errNoPair = func() error {
	var wanted []string
	for _, pair := range chainAndKey {
		wanted = append(wanted, pair[0]+" with "+pair[1])
	}
	return fmt.Errorf("no certificate; looked for %s, %s, *.pfx, *.p12, cert-rsa.pem with key-rsa.pem (or -ecdsa, -ed25519), *.rsa, *.ecdsa, *.ed25519: %w",
		strings.Join(wanted, ", "), bundle, fs.ErrNotExist)
}()

// isStaple reports the names of OCSP responses: ocsp.der, ocsp-rsa.der. Which
// certificate each is for stands in it.
func isStaple(name string) bool {
	kind, ok := strings.CutPrefix(strings.TrimSuffix(name, ".der"), "ocsp")
	return ok && strings.HasSuffix(name, ".der") && (kind == "" || slices.Contains(keyTypes, strings.TrimPrefix(kind, "-")))
}

// isStaged reports the names of keys that wait for their certificate:
// next-key.pem, next-key-rsa.pem.
func isStaged(name string) bool {
	kind, ok := strings.CutPrefix(name, "next-key")
	kind, pem := strings.CutSuffix(kind, ".pem")
	kind, typed := strings.CutPrefix(kind, "-")
	return ok && pem && (typed && slices.Contains(keyTypes, kind) || !typed && kind == "")
}
