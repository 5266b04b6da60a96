package tlsopts_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

const passphrase = "correct horse"

// keyFormats writes a key in every format that can hold it.
func keyFormats(t *testing.T, key crypto.Signer) map[string][]byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	noErr(t, err)
	encoded := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	formats := map[string][]byte{
		"PKCS8":            encoded("PRIVATE KEY", der),
		"PKCS8 misnamed":   encoded("RSA PRIVATE KEY", der),
		"PKCS8 AES scrypt": encoded("ENCRYPTED PRIVATE KEY", encrypted(t, key, pkcs8.AES256CBC, pkcs8.ScryptOpts{SaltSize: 8, CostParameter: 1 << 10, BlockSize: 8, ParallelizationParameter: 1})),
		"PKCS8 AES PBKDF2": encoded("ENCRYPTED PRIVATE KEY", encrypted(t, key, pkcs8.AES128CBC, pkcs8.PBKDF2Opts{SaltSize: 8, IterationCount: 100, HMACHash: crypto.SHA256})),
		"PKCS8 3DES SHA1":  encoded("ENCRYPTED PRIVATE KEY", encrypted(t, key, pkcs8.TripleDESCBC, pkcs8.PBKDF2Opts{SaltSize: 8, IterationCount: 100, HMACHash: crypto.SHA1})),
	}
	var kind string
	switch key := key.(type) {
	case *rsa.PrivateKey:
		kind, der = "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)
		formats["PKCS1"] = encoded(kind, der)
	case *ecdsa.PrivateKey:
		der, err = x509.MarshalECPrivateKey(key)
		noErr(t, err)
		kind = "EC PRIVATE KEY"
		formats["SEC1"] = encoded(kind, der)
		formats["SEC1 with parameters"] = append(encoded("EC PARAMETERS", []byte("\x06\x05\x2b\x81\x04\x00\x22")), encoded(kind, der)...)
	default:
		return formats
	}
	//lint:ignore SA1019 the tests make what operators still have
	block, err := x509.EncryptPEMBlock(rand.Reader, kind, der, []byte(passphrase), x509.PEMCipherAES256)
	noErr(t, err)
	formats["traditional"] = pem.EncodeToMemory(block)
	return formats
}

func encrypted(t *testing.T, key any, cipher pkcs8.Cipher, kdf pkcs8.KDFOpts) []byte {
	t.Helper()
	der, err := pkcs8.MarshalPrivateKey(key, []byte(passphrase), &pkcs8.Opts{Cipher: cipher, KDFOpts: kdf})
	noErr(t, err)
	return der
}

func TestParsePairs(t *testing.T) {
	root := signCA(t, "root", nil)
	middle := signCA(t, "middle", &root)
	junk := []byte("\r\n# renewed by cron\n-- BEGIN nothing\nBag Attributes\n    friendlyName: -----BEGIN x\n")
	for _, kind := range servedKinds {
		leaf := signLeaf(t, &middle, kind, "a.example")
		for format, key := range keyFormats(t, leaf.key) {
			layouts := map[string][]tlsopts.File{
				"two files":    {{Name: "cert.pem", Data: joined(leaf.pem(), middle.pem())}, {Name: "key.pem", Data: key}},
				"key file":     {{Data: key}, {Data: joined(leaf.pem(), middle.pem())}},
				"bundle":       {pemFile(leaf.pem(), middle.pem(), key)},
				"key first":    {pemFile(key, middle.pem(), leaf.pem())},
				"junk":         {pemFile(junk, leaf.pem(), junk, key, junk, middle.pem(), junk)},
				"same file":    {pemFile(leaf.pem(), key, middle.pem()), pemFile(leaf.pem(), key, middle.pem())},
				"CRLF and BOM": {pemFile([]byte("\xef\xbb\xbf"), bytes.ReplaceAll(joined(key, leaf.pem(), middle.pem()), []byte("\n"), []byte("\r\n")))},
			}
			if bytes.Contains(key, []byte("ENCRYPTED PRIVATE")) { // each costs a key derivation
				layouts = map[string][]tlsopts.File{"two files": layouts["two files"], "junk": layouts["junk"]}
			}
			for layout, files := range layouts {
				pairs, err := tlsopts.ParsePairs([]byte(passphrase), files...)
				if err != nil || len(pairs) != 1 {
					t.Errorf("%s, %s, %s: %d pairs, error %v", kind, format, layout, len(pairs), err)
					continue
				}
				checkPair(t, kind+" "+format+" "+layout, pairs[0], leaf, leaf, middle)
			}
		}
	}
}

// checkPair checks that pair is of leaf's key and has the chain.
func checkPair(t *testing.T, what string, pair *tls.Certificate, leaf signed, chain ...signed) {
	t.Helper()
	if key, ok := leaf.key.(interface{ Equal(crypto.PrivateKey) bool }); !ok || !key.Equal(pair.PrivateKey) {
		t.Errorf("%s: another key", what)
	}
	if !leaf.cert.Equal(pair.Leaf) {
		t.Errorf("%s: another leaf, %s", what, pair.Leaf.Subject)
	}
	if len(pair.Certificate) != len(chain) {
		t.Errorf("%s: %d certificates in the chain, want %d", what, len(pair.Certificate), len(chain))
		return
	}
	for i, want := range chain {
		if !bytes.Equal(pair.Certificate[i], want.cert.Raw) {
			t.Errorf("%s: certificate %d of the chain is not %s", what, i+1, want.cert.Subject)
		}
	}
}

func TestParsePairsOfSeveralKeys(t *testing.T) {
	root := signCA(t, "root", nil)
	middle, other := signCA(t, "middle", &root), signCA(t, "other", &root)
	ec, rsa := signLeaf(t, &middle, "P-256", "a.example"), signLeaf(t, &other, "RSA 2048", "a.example")
	pairs, err := tlsopts.ParsePairs(nil, pemFile(rsa.keyPEM(t), ec.pem(), middle.pem(), ec.keyPEM(t), rsa.pem(), other.pem()))
	noErr(t, err)
	if len(pairs) != 2 {
		t.Fatalf("%d pairs", len(pairs))
	}
	checkPair(t, "RSA", pairs[0], rsa, rsa, other)
	checkPair(t, "ECDSA", pairs[1], ec, ec, middle)
}

func TestParsePKCS12(t *testing.T) {
	root := signCA(t, "root", nil)
	middle := signCA(t, "middle", &root)
	for _, kind := range []string{"RSA 2048", "P-256", "Ed25519"} {
		leaf := signLeaf(t, &middle, kind, "a.example")
		for name, encoder := range map[string]*pkcs12.Encoder{
			"modern": pkcs12.Modern2023, "PBMAC1": pkcs12.Modern2026,
			"RC2": pkcs12.LegacyRC2, "3DES": pkcs12.LegacyDES, "passwordless": pkcs12.Passwordless,
		} {
			for _, secret := range []string{"", passphrase} {
				if name == "passwordless" && secret != "" {
					continue
				}
				pfx, err := encoder.Encode(leaf.key, leaf.cert, []*x509.Certificate{root.cert, middle.cert}, secret)
				noErr(t, err)
				given := []string{passphrase} // needed, or given but not needed
				if secret == "" {
					given = append(given, "")
				}
				for _, given := range given {
					pairs, err := tlsopts.ParsePairs([]byte(given), tlsopts.File{Name: "a.pfx", Data: pfx})
					if err != nil {
						t.Errorf("%s, %s, passphrase %q for %q: %v", kind, name, given, secret, err)
						continue
					}
					checkPair(t, kind+" "+name, pairs[0], leaf, leaf, middle, root)
				}
				if secret == "" {
					continue
				}
				for given, want := range map[string]error{"": tlsopts.ErrEncryptedKey, "wrong": tlsopts.ErrWrongPassphrase} {
					if _, err := tlsopts.ParsePairs([]byte(given), tlsopts.File{Data: pfx}); !errors.Is(err, want) {
						t.Errorf("%s, %s, passphrase %q: error %v, want %v", kind, name, given, err, want)
					}
				}
			}
		}
	}
}

func TestParsePairRoles(t *testing.T) {
	leaf := signLeaf(t, nil, "P-256", "a.example")
	key := leaf.keyPEM(t)
	pair, err := tlsopts.ParsePair(leaf.pem(), key)
	noErr(t, err)
	checkPair(t, "pair", pair, leaf, leaf)
	for name, tt := range map[string]struct {
		chain, key []byte
		want       string
	}{
		"empty chain": {nil, key, "the certificate file is empty"},
		"empty key":   {leaf.pem(), []byte("\n"), "the private key file is empty"},
		"swapped":     {key, leaf.pem(), "no PEM block \"CERTIFICATE\" in the certificate file"},
		"no key":      {leaf.pem(), leaf.pem(), "no PEM block \"PRIVATE KEY\" in the private key file"},
	} {
		if _, err := tlsopts.ParsePair(tt.chain, tt.key); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v does not say %q", name, err, tt.want)
		}
	}
}
