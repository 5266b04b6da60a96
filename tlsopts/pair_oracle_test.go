package tlsopts_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// TestParsePairsOfOpenSSL reads what the real openssl writes.
func TestParsePairsOfOpenSSL(t *testing.T) {
	root := signCA(t, "root", nil)
	middle := signCA(t, "middle", &root)
	generate := map[string][]string{
		"RSA 2048": {"genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key.pem"},
		"P-256":    {"ecparam", "-name", "prime256v1", "-genkey", "-out", "key.pem"}, // with EC PARAMETERS
		"P-384":    {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384", "-out", "key.pem"},
		"P-521":    {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521", "-out", "key.pem"},
		"Ed25519":  {"genpkey", "-algorithm", "ED25519", "-out", "key.pem"},
	}
	pass := "pass:" + passphrase
	for kind, args := range generate {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			files := map[string][]byte{"middle.pem": middle.pem(), "middle.key": middle.keyPEM(t)}
			commands := [][]string{
				args,
				{"req", "-new", "-key", "key.pem", "-subj", "/CN=a.example", "-out", "csr.pem"},
				{"x509", "-req", "-in", "csr.pem", "-CA", "middle.pem", "-CAkey", "middle.key", "-CAcreateserial", "-text", "-out", "cert.pem"},
			}
			var keys []string
			rewrite := func(out string, args ...string) {
				keys = append(keys, out)
				commands = append(commands, append(args, "-in", "key.pem", "-out", out))
			}
			rewrite("pkcs8.pem", "pkcs8", "-topk8", "-nocrypt")
			rewrite("aes.pem", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", pass)
			rewrite("aes128.pem", "pkcs8", "-topk8", "-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1", "-passout", pass)
			rewrite("des3.pem", "pkcs8", "-topk8", "-v2", "des3", "-iter", "5000", "-passout", pass)
			rewrite("scrypt.pem", "pkcs8", "-topk8", "-scrypt", "-passout", pass)
			switch kind {
			case "RSA 2048":
				rewrite("traditional.pem", "rsa", "-aes256", "-traditional", "-passout", pass)
				rewrite("old.pem", "rsa", "-des3", "-traditional", "-passout", pass)
			case "P-256", "P-384", "P-521":
				rewrite("sec1.pem", "ec")
				rewrite("traditional.pem", "ec", "-aes128", "-passout", pass)
			}
			dir := openssl(t, files, commands...)
			chain := joined(readFile(t, dir, "cert.pem"), middle.pem())
			for _, name := range append(keys, "key.pem") {
				pairs, err := tlsopts.ParsePairs([]byte(passphrase), tlsopts.File{Name: "cert.pem", Data: chain}, tlsopts.File{Name: name, Data: readFile(t, dir, name)})
				if err != nil {
					t.Error(err)
					continue
				}
				if got := len(pairs[0].Certificate); got != 2 || pairs[0].Leaf.Subject.CommonName != "a.example" {
					t.Errorf("%s: %d certificates for %s", name, got, pairs[0].Leaf.Subject)
				}
				if notes := tlsopts.ChainNotes(pairs[0]); len(notes) > 0 {
					t.Errorf("%s: notes %q", name, notes)
				}
			}
		})
	}
}

func TestParsePKCS12OfOpenSSL(t *testing.T) {
	root := signCA(t, "root", nil)
	middle := signCA(t, "middle", &root)
	leaf := signLeaf(t, &middle, "RSA 2048", "a.example")
	files := map[string][]byte{"cert.pem": leaf.pem(), "key.pem": leaf.keyPEM(t), "chain.pem": joined(middle.pem(), root.pem())}
	export := func(out, secret string, args ...string) []string {
		return append([]string{"pkcs12", "-export", "-in", "cert.pem", "-inkey", "key.pem", "-out", out, "-passout", "pass:" + secret}, args...)
	}
	var commands [][]string
	wanted := make(map[string]struct {
		secret string
		chain  []signed
	})
	for form, args := range map[string][]string{
		"modern": nil, "legacy": {"-legacy"}, "rc2-128": {"-legacy", "-certpbe", "PBE-SHA1-RC2-128"},
		"des": {"-descert", "-legacy"}, "sha512": {"-macalg", "sha512", "-iter", "10000"}, "aes128": {"-keypbe", "AES-128-CBC", "-certpbe", "AES-128-CBC"},
	} {
		for i, secret := range []string{passphrase, "", "pässphräse"} {
			for _, chained := range []bool{false, true} {
				if chained && secret != passphrase {
					continue
				}
				out := fmt.Sprintf("%s-%d-%v.pfx", form, i, chained)
				want := wanted[out]
				want.secret, want.chain = secret, []signed{leaf}
				all := args
				if chained {
					all = append(append([]string{}, args...), "-certfile", "chain.pem", "-name", "a.example")
					want.chain = []signed{leaf, middle, root}
				}
				wanted[out] = want
				commands = append(commands, export(out, secret, all...))
			}
		}
	}
	commands = append(commands, export("plain.pfx", "", "-keypbe", "NONE", "-certpbe", "NONE", "-nomac"))
	plain := wanted["plain.pfx"]
	plain.chain = []signed{leaf}
	wanted["plain.pfx"] = plain

	dir := openssl(t, files, commands...)
	for name, want := range wanted {
		file := tlsopts.File{Name: name, Data: readFile(t, dir, name)}
		pairs, err := tlsopts.ParsePairs([]byte(want.secret), file)
		if err != nil {
			t.Error(err)
			continue
		}
		checkPair(t, name, pairs[0], leaf, want.chain...)
		if want.secret == "" {
			continue
		}
		if _, err := tlsopts.ParsePairs(nil, file); !errors.Is(err, tlsopts.ErrEncryptedKey) {
			t.Errorf("%s without passphrase: %v", name, err)
		}
		if _, err := tlsopts.ParsePairs([]byte("wrong"), file); !errors.Is(err, tlsopts.ErrWrongPassphrase) {
			t.Errorf("%s with a wrong passphrase: %v", name, err)
		}
	}
}
