package probe_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// now is the clock of the tests.
var now = time.Date(2026, time.November, 24, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

const day = 24 * time.Hour

// signer is a certificate with its key.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var serials struct {
	sync.Mutex
	last int64
}

// issue makes a certificate that is signed by issuer, or by itself. What is not
// set in template is filled in: valid from 30 days ago for 90.
func issue(t testing.TB, template x509.Certificate, issuer *signer, keys ...crypto.Signer) *signer {
	t.Helper()
	key := crypto.Signer(nil)
	if len(keys) > 0 {
		key = keys[0]
	} else {
		made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key = made
	}
	serials.Lock()
	serials.last++
	template.SerialNumber = big.NewInt(serials.last)
	serials.Unlock()
	if template.NotBefore.IsZero() {
		template.NotBefore = now.Add(-30 * day)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = template.NotBefore.Add(90 * day)
	}
	if issuer == nil {
		issuer = &signer{&template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, issuer.cert, key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{cert, key}
}

func authority(name string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
}

func server(names ...string) x509.Certificate {
	return x509.Certificate{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

// tree is a root that is trusted, an intermediate, and a good leaf.
type tree struct{ root, intermediate, leaf *signer }

var theTree struct {
	sync.Once
	tree
}

func newTree(t testing.TB) tree {
	t.Helper()
	theTree.Do(func() {
		theTree.root = issue(t, authority("Root"), nil)
		theTree.intermediate = issue(t, authority("Intermediate"), theTree.root)
		theTree.leaf = issue(t, server("mail.example"), theTree.intermediate)
	})
	return theTree.tree
}

func (tr tree) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(tr.root.cert)
	return pool
}

// chainOf is what a server sends: the key is that of the first.
func chainOf(signers ...*signer) tls.Certificate {
	chain := tls.Certificate{PrivateKey: signers[0].key}
	for _, s := range signers {
		chain.Certificate = append(chain.Certificate, s.cert.Raw)
	}
	return chain
}

func rsaKey(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// listen serves connections with do until the end of the test. It closes those
// that are left, and waits.
func listen(t testing.TB, do func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			all.Go(func() {
				defer conn.Close()
				do(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// mta is a mail server with faults. The zero value of what is text means what a
// good one says.
type mta struct {
	implicit       bool
	config         *tls.Config
	greeting       string
	plain, secure  []string // EHLO keywords
	starttls       string   // reply
	ehlo           string   // reply to EHLO under TLS, whole
	quit           string
	keepsInjection bool
}

func or(text, usual string) string {
	if text == "" {
		return usual
	}
	return text
}

func keywords(given []string, usual ...string) string {
	if given == nil {
		given = usual
	}
	var b strings.Builder
	for _, keyword := range append([]string{"mail.example greets you"}, given[:max(0, len(given)-1)]...) {
		b.WriteString("250-" + keyword + "\r\n")
	}
	return b.String() + "250 " + slices.Concat(given, []string{"HELP"})[max(0, len(given)-1)] + "\r\n"
}

// serve is one session.
func (m mta) serve(conn net.Conn) {
	secured := m.implicit
	if secured {
		conn = tls.Server(conn, m.config)
	}
	in := bufio.NewReader(conn)
	io.WriteString(conn, or(m.greeting, "220 mail.example ESMTP\r\n"))
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); {
		case verb == "EHLO" && secured:
			io.WriteString(conn, or(m.ehlo, keywords(m.secure, "PIPELINING", "SIZE 1000", "AUTH PLAIN LOGIN")))
		case verb == "EHLO":
			io.WriteString(conn, keywords(m.plain, "PIPELINING", "SIZE 1000", "STARTTLS"))
		case verb == "STARTTLS":
			reply := or(m.starttls, "220 go ahead\r\n")
			io.WriteString(conn, reply)
			if !strings.HasPrefix(reply, "220") {
				continue
			}
			left := ""
			if m.keepsInjection {
				kept, _ := in.Peek(in.Buffered())
				left = string(kept)
			}
			conn, secured = tls.Server(conn, m.config), true
			in = bufio.NewReader(io.MultiReader(strings.NewReader(left), conn))
		case verb == "QUIT":
			io.WriteString(conn, or(m.quit, "221 bye\r\n"))
			return
		default:
			io.WriteString(conn, "250 fine\r\n")
		}
	}
}

// run probes an address that listen gave, under the name mail.example and with
// the tree's root trusted unless options say otherwise.
func run(t testing.TB, address string, o probe.Options) *probe.Report {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	o.Host, o.Port = host, port
	o.ServerName = or(o.ServerName, "mail.example")
	if o.Roots == nil {
		o.Roots, o.RootsName = newTree(t).pool(), "root.pem"
	}
	if o.Now == nil {
		o.Now = clock
	}
	if o.Mode == "" {
		o.Mode = probe.STARTTLS
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return probe.Run(ctx, o)
}

// ids are the findings as "level id", sorted.
func ids(r *probe.Report) []string {
	all := []string{}
	for _, f := range r.Findings {
		all = append(all, fmt.Sprintf("%s %s", f.Level, f.ID))
	}
	slices.Sort(all)
	return all
}

// requireFindings fails the test where there are others.
func requireFindings(t testing.TB, r *probe.Report, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := ids(r); !slices.Equal(got, want) {
		t.Errorf("findings %q, want %q\n%s", got, want, texts(r))
	}
}

func texts(r *probe.Report) string {
	var b strings.Builder
	for _, s := range r.Sessions {
		for _, step := range s.Steps {
			fmt.Fprintf(&b, "\t%s %s: %s\n", step.Outcome, step.Name, step.Text)
		}
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "\t%s %s: %s (%s)\n", f.Level, f.ID, f.Text, f.Mend)
	}
	return b.String()
}

func config(t testing.TB, chain ...*signer) *tls.Config {
	t.Helper()
	if len(chain) == 0 {
		tr := newTree(t)
		chain = []*signer{tr.leaf, tr.intermediate}
	}
	return &tls.Config{Certificates: []tls.Certificate{chainOf(chain...)}, SessionTicketsDisabled: true}
}
