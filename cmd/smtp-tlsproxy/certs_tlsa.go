package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/escape"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/sni"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// tlsaOptions are the flags of the command.
type tlsaOptions struct {
	ports []int
	ttl   int
	host  string
}

func certsTLSACommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "tlsa NAME…",
		Short: "Print the DANE TLSA records of keys, ready for a zone file",
		Long: `Print TLSA records (RFC 6698) for the keys of each name's folder, or of the
wildcard's where there is no folder of that name: "3 1 1", the SHA-256 digest of
the key, as RFC 7672 wants it for SMTP. The record stays as it is when a
certificate is renewed with its key. The name is what MX records say; a zone
without DNSSEC has no use for any of this.

Before another key is served, its record must be known everywhere. Put the new
key into the folder as next-key.pem: it is not served, and its records come,
too. Publish both, wait for two TTLs at least (RFC 7671 section 8.1), and only
then put the key into service with its certificate. When the old key is
out of service, take its records out.`,
		Args: cobra.MatchAll(cobra.MinimumNArgs(1), serverNames),
	}
	configured := directoryFlags(c)
	var o tlsaOptions
	c.Flags().IntSliceVar(&o.ports, "port", []int{25, 465, 587}, "the `PORTS` that clients connect to")
	c.Flags().IntVar(&o.ttl, "ttl", 3600, "the `SECONDS` that others may keep a record")
	c.Flags().StringVar(&o.host, "host", "", "the `HOST` that clients connect to, where it is not the folder's name: for a wildcard's")
	c.ValidArgsFunction = completeFolders(configured)
	tlsa := doingWith(func(c *cobra.Command, args []string) error {
		cfg, err := configured()
		if err != nil {
			return err
		}
		return (&check{config: cfg}).tlsa(folderNames(args), o, c.OutOrStdout(), c.ErrOrStderr())
	})
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := o.complete(args); err != nil {
			return err
		}
		return tlsa(c, args)
	}
	return c
}

// complete refuses what no record can be made of.
func (o *tlsaOptions) complete(names []string) error {
	for _, port := range o.ports {
		if port < 1 || port > math.MaxUint16 {
			return fmt.Errorf("--port %d: want a port from 1 to %d", port, math.MaxUint16)
		}
	}
	if len(o.ports) == 0 {
		return errors.New("--port: want one or more")
	}
	if o.ttl < 0 || o.ttl > math.MaxInt32 { // RFC 2181 section 8
		return fmt.Errorf("--ttl %d: want 0 to %d", o.ttl, math.MaxInt32)
	}
	if o.host == "" {
		for _, name := range names {
			if _, wildcard := parentOf(name); wildcard {
				return fmt.Errorf("%s: a record is for a host, and that of a wildcard is not known: name it with --host", escape.Field(name))
			}
		}
		return nil
	}
	host, err := folderName(o.host)
	if _, wildcard := parentOf(host); err == nil && wildcard {
		err = fmt.Errorf("%s is a wildcard", host)
	}
	if err != nil {
		return fmt.Errorf("--host: %w", err)
	}
	if len(names) > 1 {
		return errors.New("--host goes with one NAME")
	}
	o.host = host
	return nil
}

func (c *check) tlsa(names []string, o tlsaOptions, stdout, stderr io.Writer) error {
	found, err := c.folders(names)
	if err != nil {
		return err
	}
	faulty := false
	for _, name := range names {
		report := found[name]
		if parent, ok := parentOf(name); ok {
			report = found["*."+parent]
		} else if errors.Is(report.Err, fs.ErrNotExist) && len(report.Staged) == 0 {
			_, parent, _ := strings.Cut(name, ".")
			if wildcard := found["*."+parent]; len(wildcard.Certificates)+len(wildcard.Staged) > 0 {
				report = wildcard
			}
		}
		if report.Err != nil {
			faulty = true
			fmt.Fprintln(stderr, escape.Text(report.Err.Error(), "\n"))
		}
		host := name
		if o.host != "" {
			host = o.host
		}
		if err := writeTLSA(stdout, host, report, o); err != nil {
			return err
		}
	}
	if faulty {
		return errTold
	}
	return nil
}

// folders reads the folders of names and of their wildcards, those as "*.".
func (c *check) folders(names []string) (map[string]sni.Report, error) {
	wanted := slices.Clone(names)
	for _, name := range names {
		if _, parent, ok := strings.Cut(name, "."); ok {
			wanted = append(wanted, "*."+parent)
		}
	}
	reports, err := c.reports(wanted...)
	if err != nil {
		return nil, err
	}
	found := make(map[string]sni.Report)
	for report := range reports {
		name := report.Folder
		if parent, ok := parentOf(name); ok {
			name = "*." + parent
		}
		found[name] = report
	}
	return found, nil
}

// writeTLSA prints the records of one host, with a comment above those of each key.
func writeTLSA(out io.Writer, host string, report sni.Report, o tlsaOptions) error {
	var text strings.Builder
	records := func(comment string, key any) {
		fmt.Fprintf(&text, "; %s: %s, %s\n", host, tlsopts.KeyName(key), comment)
		for _, port := range o.ports {
			fmt.Fprintf(&text, "_%d._tcp.%s. %d IN TLSA 3 1 1 %s\n", port, host, o.ttl, statusOfKey(key).SPKI)
		}
	}
	for _, cert := range report.Certificates {
		records(fmt.Sprintf("certificate in %s until %s", report.Folder, cert.Leaf.NotAfter.UTC().Format(time.DateOnly)), cert.Leaf.PublicKey)
	}
	for _, key := range report.Staged {
		records("staged as "+report.Folder+"/"+key.File+": wait for two TTLs at least before it is served", key.Public)
	}
	_, err := io.WriteString(out, text.String())
	return err
}
