package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/devcert"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
)

// generateOptions are the flags of the command.
type generateOptions struct {
	keyType string
	days    int
	force   bool
}

// keyTypesMade are the key types that can be had, by the names of the flag.
var keyTypesMade = map[string]devcert.KeyType{"ecdsa": devcert.ECDSA, "rsa": devcert.RSA2048, "ed25519": devcert.Ed25519}

func certsGenerateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "generate NAME…",
		Short: "Make certificates for development, signed by an authority of their own",
		Long: `Make a certificate for development and tests for each name, in its folder of the
certificate directory, signed by an authority of its own that is kept in .ca
there. The certificate of mail.example.com is for that name, and that of
"*.example.com" for example.com and all names one label longer.

What this command made it renews in place; a second key type comes beside the
first, as cert-rsa.pem with key-rsa.pem. A folder with any other pair is left as
it is, unless --force is given. A proxy that runs serves the new pair at once.`,
		Args:              cobra.MatchAll(cobra.MinimumNArgs(1), serverNames),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	configured := directoryFlags(c)
	var o generateOptions
	c.Flags().StringVar(&o.keyType, "key-type", "ecdsa", "the `TYPE` of the key: ecdsa (P-256), rsa (2048 bits) or ed25519")
	c.Flags().IntVar(&o.days, "days", 90, "how many `DAYS` the certificate is valid")
	c.Flags().BoolVar(&o.force, "force", false, "write also where a folder has a pair that this command did not make")
	_ = c.RegisterFlagCompletionFunc("key-type", cobra.FixedCompletions([]cobra.Completion{"ecdsa", "rsa", "ed25519"}, cobra.ShellCompDirectiveNoFileComp)) // it is there
	generate := doingWith(func(c *cobra.Command, args []string) error {
		cfg, err := configured()
		if err != nil {
			return err
		}
		return runGenerate(cfg.Certificates.Directory, folderNames(args), o, c.OutOrStdout())
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		if _, known := keyTypesMade[o.keyType]; !known {
			return fmt.Errorf("--key-type %q: want ecdsa, rsa or ed25519", o.keyType)
		}
		if o.days < 1 {
			return fmt.Errorf("--days %d: want one or more", o.days)
		}
		return generate(c, args)
	}
	return c
}

// caFolder is where the authority is kept. A folder that begins with a dot is
// served to nobody.
const caFolder = ".ca"

func runGenerate(directory string, folders []string, o generateOptions, out io.Writer) error {
	caDir := filepath.Join(directory, caFolder)
	ca, made, err := devcert.OpenCA(caDir, "smtp-tlsproxy development CA")
	if err != nil {
		return fmt.Errorf("the authority for development: %w", err)
	}
	if left := int(time.Until(ca.NotAfter()).Hours() / 24); o.days > left {
		return fmt.Errorf("--days %d: the authority %s expires before that, at %s", o.days, devcert.CAFile(caDir), ca.NotAfter().UTC().Format(time.DateOnly))
	}
	for _, folder := range folders {
		if err := generate(ca, filepath.Join(directory, folder), o, out); err != nil {
			return err
		}
	}
	how := "the authority"
	if made {
		how = "a new authority"
	}
	host := folders[0]
	if parent, ok := parentOf(host); ok {
		host = "mail." + parent
	}
	_, err = fmt.Fprintf(out, `
Signed by %s for development, valid until %s: %[3]s
Clients that trust it:

  openssl s_client -connect localhost:465 -servername %[4]s -CAfile %[3]s -verify_return_error -verify_hostname %[4]s -brief </dev/null
  swaks --server localhost:465 --tls-on-connect --tls-sni %[4]s --tls-verify --tls-ca-path %[3]s --to you@%[4]s --quit-after EHLO

Let no machine trust it that reads real mail: who has its key can pose as any server.
`, how, ca.NotAfter().UTC().Format(time.DateOnly), devcert.CAFile(caDir), host)
	return err
}

// generate makes the pair of one folder.
func generate(ca *devcert.CA, path string, o generateOptions, out io.Writer) error {
	suffix, renewed, err := placeOf(ca, path, o)
	if err != nil {
		return err
	}
	leaf := devcert.Leaf{Names: namesFor(filepath.Base(path)), Key: keyTypesMade[o.keyType]}
	leaf.NotBefore = time.Now().Add(-time.Hour) // for clients whose clock is late
	leaf.Lifetime = time.Hour + time.Duration(o.days)*24*time.Hour
	certPEM, keyPEM, err := ca.Issue(leaf)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	cert, key := filepath.Join(path, "cert"+suffix+".pem"), filepath.Join(path, "key"+suffix+".pem")
	if err := devcert.WritePair(cert, key, certPEM, keyPEM); err != nil {
		return err
	}
	how := "made"
	if renewed {
		how = "renewed"
	}
	_, err = fmt.Fprintf(out, "%s %s with %s: %s for %s, until %s\n", how, cert, filepath.Base(key), o.keyType,
		strings.Join(leaf.Names, " and "), leaf.NotBefore.Add(leaf.Lifetime).UTC().Format(time.DateOnly))
	return err
}

// placeOf finds where a pair goes: over one of its key type that the authority
// has signed; else to cert.pem, if no other is there; else beside that. It
// refuses a folder with a pair that is not the authority's.
func placeOf(ca *devcert.CA, path string, o generateOptions) (suffix string, renewed bool, err error) {
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	if info, err := os.Lstat(path); err == nil && !info.IsDir() && !o.force {
		return "", false, fmt.Errorf("%s is a link, and what it leads to was not made by this command: --force writes there nevertheless", path)
	}
	var files []string
	for _, entry := range entries {
		files = append(files, entry.Name())
	}
	own := make(map[string]string) // by key type: the suffix of the pair
	plain := false
	for _, pair := range sni.Pairs(files) {
		kind, ours := madeBy(ca, path, pair)
		if !ours && !o.force {
			return "", false, fmt.Errorf("%s has %s, which this command did not make: --force makes another pair nevertheless, which may take its place", path, strings.Join(pair, " with "))
		}
		if ours {
			own[kind] = suffixOf(pair)
			plain = plain || suffixOf(pair) == ""
		}
	}
	if suffix, renewed = own[o.keyType]; renewed {
		return suffix, true, nil
	}
	if plain {
		return "-" + o.keyType, false, nil
	}
	return "", false, nil
}

// suffixOf is what a pair's files have behind "cert" and "key".
func suffixOf(pair []string) string {
	return strings.TrimSuffix(strings.TrimPrefix(pair[0], "cert"), ".pem")
}

// madeBy reports whether the authority signed a pair, in files of our names, and
// its key type.
func madeBy(ca *devcert.CA, path string, pair []string) (kind string, ours bool) {
	if len(pair) != 2 || !strings.HasPrefix(pair[0], "cert") {
		return "", false
	}
	for _, file := range pair {
		info, err := os.Lstat(filepath.Join(path, file))
		if err == nil && !info.Mode().IsRegular() {
			return "", false
		}
	}
	data, err := os.ReadFile(filepath.Join(path, pair[0]))
	if err != nil {
		return "", false
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return "", false
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil || !ca.Issued(leaf) {
		return "", false
	}
	return statusOfKey(leaf.PublicKey).KeyType, true
}

// namesFor are what the certificate of a folder is for.
func namesFor(folder string) []string {
	if parent, ok := parentOf(folder); ok {
		return []string{"*." + parent, parent}
	}
	return []string{folder}
}

// parentOf is "example.com" for the folder of a wildcard of it.
func parentOf(folder string) (parent string, wildcard bool) {
	first, parent, more := strings.Cut(folder, ".")
	return parent, more && (first == "*" || first == "_")
}
