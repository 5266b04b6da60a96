package tlsopts_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// TestParsePairsErrors shows that each error names the file, says what is
// wrong and how to mend it, and has no key material.
func TestParsePairsErrors(t *testing.T) {
	leaf, other := signLeaf(t, nil, "P-256", "a.example"), signLeaf(t, nil, "P-256", "b.example")
	weak := signLeaf(t, nil, "RSA 1024", "a.example")
	odd := signLeaf(t, nil, "P-224", "a.example")
	key := leaf.keyPEM(t)
	locked := keyFormats(t, leaf.key)
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leaf.key)
	noErr(t, err)
	var many [][]byte
	for range 65 {
		many = append(many, signLeaf(t, nil, "P-256", "c.example").pem())
	}
	tests := map[string]struct {
		data       []byte
		passphrase string
		is         error
		want       string
	}{
		"empty":           {[]byte("\n"), "", nil, "bundle.pem: the file is empty"},
		"text":            {[]byte("hello"), "", nil, "no PEM block in the file"},
		"UTF-16":          {[]byte("\xff\xfe-\x00-\x00"), "", nil, "PowerShell"},
		"too large":       {append(bytes.Clone(key), make([]byte, 1<<20)...), "", nil, "larger than 1048576 bytes"},
		"no key":          {leaf.pem(), "", nil, "no private key"},
		"no certificate":  {key, "", nil, "no certificate"},
		"mismatch":        {joined(leaf.pem(), other.keyPEM(t)), "", tlsopts.ErrKeyMismatch, "the key is ECDSA P-256, of the 1 certificates found none has its public key: \"a.example\" (ECDSA P-256)"},
		"one mismatch":    {joined(leaf.pem(), key, other.keyPEM(t)), "", tlsopts.ErrKeyMismatch, ""},
		"cut short":       {joined(key, leaf.pem(), other.pem()[:200]), "", nil, "of 3 PEM blocks only 2 are whole"},
		"indented":        {append([]byte("  "), key...), "", nil, "indented"},
		"bad certificate": {joined(leaf.pem(), block("CERTIFICATE", []byte("x"))), "", nil, "bundle.pem: certificate 2 of the file: x509:"},
		"trusted":         {block("TRUSTED CERTIFICATE", leaf.cert.Raw), "", nil, "openssl x509 -in"},
		"OpenSSH":         {block("OPENSSH PRIVATE KEY", []byte("x")), "", nil, "ssh-keygen -p -m PEM"},
		"DSA":             {block("DSA PRIVATE KEY", []byte("x")), "", nil, "\"DSA PRIVATE KEY\""},
		"damaged key":     {joined(leaf.pem(), block("PRIVATE KEY", keyDER[:40])), "", nil, "the private key is damaged"},
		"short RSA":       {joined(weak.pem(), weak.keyPEM(t)), "", nil, "the RSA key has 1024 bits; 2048"},
		"P-224":           {joined(odd.pem(), odd.keyPEM(t)), "", nil, "the curve P-224"},
		"PKCS8, none":     {joined(leaf.pem(), locked["PKCS8 AES PBKDF2"]), "", tlsopts.ErrEncryptedKey, "\"passphrase\" beside the key"},
		"PKCS8, wrong":    {joined(leaf.pem(), locked["PKCS8 AES scrypt"]), "wrong", tlsopts.ErrWrongPassphrase, ""},
		"traditional":     {joined(leaf.pem(), locked["traditional"]), "", tlsopts.ErrEncryptedKey, ""},
		"old, wrong":      {joined(leaf.pem(), locked["traditional"]), "wrong", tlsopts.ErrWrongPassphrase, ""},
		"bad DEK-Info":    {bytes.Replace(locked["traditional"], []byte("AES-256-CBC"), []byte("AES-999-XYZ"), 1), "x", nil, "DEK-Info line"},
		"certificate DER": {leaf.cert.Raw, "", nil, "openssl x509 -inform DER"},
		"key DER":         {keyDER, "", nil, "openssl pkey -inform DER"},
		"damaged PKCS12":  {[]byte("0\x03\x02\x01\x03"), "", nil, "openssl pkcs12 -export"},
		"too many":        {joined(many...), "", nil, "more than 64 certificates"},
		"damaged PBES2":   {block("ENCRYPTED PRIVATE KEY", []byte("x")), "x", nil, "the parameters are damaged"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := tlsopts.ParsePairs([]byte(tt.passphrase), tlsopts.File{Name: "bundle.pem", Data: tt.data})
			if err == nil {
				t.Fatal("no error")
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %v is not %v", err, tt.is)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not say %q", err, tt.want)
			}
			if leak := keyBytesIn(err.Error(), tt.data); leak != "" {
				t.Errorf("R31: error %q has %q of the key", err, leak)
			}
		})
	}
}

// keyBytesIn returns a part of text that is also in a private key of data.
func keyBytesIn(text string, data []byte) string {
	const telling = 8
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return ""
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		encoded := pem.EncodeToMemory(&pem.Block{Bytes: block.Bytes})
		body := encoded[bytes.IndexByte(encoded, '\n')+1:] // without the BEGIN line
		if end := bytes.LastIndex(body, []byte("-----END")); end >= 0 {
			body = body[:end]
		}
		for i := 0; i+telling <= len(text); i++ {
			part := text[i : i+telling]
			if bytes.Contains(block.Bytes, []byte(part)) || bytes.Contains(body, []byte(part)) {
				return part
			}
		}
	}
}

func TestPKCS12Iterations(t *testing.T) {
	leaf := signLeaf(t, nil, "P-256", "a.example")
	pfx, err := pkcs12.Modern.WithIterations(0x12345).Encode(leaf.key, leaf.cert, nil, passphrase)
	noErr(t, err)
	if _, err := tlsopts.ParsePairs([]byte(passphrase), tlsopts.File{Data: pfx}); err != nil {
		t.Errorf("with 74,565 iterations: %v", err)
	}
	count := []byte("\x02\x03\x01\x23\x45")
	if n := bytes.Count(pfx, count); n != 3 { // of the MAC, the key and the certificates
		t.Fatalf("%d counts in the file", n)
	}
	for i, at := 0, 0; i < 3; i++ {
		at += bytes.Index(pfx[at:], count) + 1
		endless := bytes.Clone(pfx)
		endless[at+1] = 0x7f
		if _, err := tlsopts.ParsePairs([]byte(passphrase), tlsopts.File{Data: endless}); err == nil || !strings.Contains(err.Error(), "more than 4000000 iterations") {
			t.Errorf("count %d: error %v", i+1, err)
		}
	}
}

// pbes2Key is an encrypted key in parts.
type pbes2Key struct {
	Algorithm struct {
		OID    asn1.ObjectIdentifier
		Params struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	}
	Data []byte
}

// changed is an encrypted key, whose passphrase is "passphrase", after a change.
func changed(t *testing.T, change func(*pbes2Key)) []byte {
	t.Helper()
	der := encrypted(t, newKey(t, "P-256"), pkcs8.AES256CBC, pkcs8.PBKDF2Opts{SaltSize: 8, IterationCount: 1, HMACHash: crypto.SHA256})
	var key pbes2Key
	_, err := asn1.Unmarshal(der, &key)
	noErr(t, err)
	change(&key)
	der, err = asn1.Marshal(key)
	noErr(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})
}

func withPBKDF2(t *testing.T, iterations, keyLength int, prf asn1.ObjectIdentifier) []byte {
	t.Helper()
	params := struct {
		Salt       []byte
		Iterations int
		KeyLength  int `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier
	}{[]byte("saltsalt"), iterations, keyLength, pkix.AlgorithmIdentifier{Algorithm: prf}}
	return withKDF(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}, params)
}

func withScrypt(t *testing.T, n, r, p int) []byte {
	t.Helper()
	params := struct {
		Salt    []byte
		N, R, P int
	}{[]byte("saltsalt"), n, r, p}
	return withKDF(t, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}, params)
}

func withKDF(t *testing.T, oid asn1.ObjectIdentifier, params any) []byte {
	t.Helper()
	der, err := asn1.Marshal(params)
	noErr(t, err)
	return changed(t, func(key *pbes2Key) {
		key.Algorithm.Params.KDF = pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.RawValue{FullBytes: der}}
	})
}

// TestPBES2 shows what is said of encryptions that package pkcs8 panics on,
// reads wrongly or works on for ever.
func TestPBES2(t *testing.T) {
	hmacSHA256, hmacSHA512 := asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}, asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}
	for name, tt := range map[string]struct {
		key  []byte
		want string
	}{
		"AES-GCM": {changed(t, func(k *pbes2Key) {
			k.Algorithm.Params.Cipher.Algorithm = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 46}
		}), "the cipher 2.16.840.1.101.3.4.1.46 is not supported"},
		"short vector": {changed(t, func(k *pbes2Key) {
			k.Algorithm.Params.Cipher.Parameters = asn1.RawValue{FullBytes: []byte("\x04\x0812345678")}
		}), "the parameters are damaged"},
		"ragged":           {changed(t, func(k *pbes2Key) { k.Data = k.Data[1:] }), "the parameters are damaged"},
		"nothing":          {changed(t, func(k *pbes2Key) { k.Data = nil }), "the parameters are damaged"},
		"PBES1":            {changed(t, func(k *pbes2Key) { k.Algorithm.OID = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 10} }), "the scheme 1.2.840.113549.1.5.10 is not supported"},
		"other KDF":        {withKDF(t, asn1.ObjectIdentifier{1, 2, 3}, 1), "the key derivation 1.2.3 is not supported"},
		"no salt":          {withKDF(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}, 1), "the parameters of PBKDF2 are damaged"},
		"no cost":          {withKDF(t, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}, 1), "the parameters of scrypt are damaged"},
		"SHA-512":          {withPBKDF2(t, 2048, 0, hmacSHA512), "the hash function 1.2.840.113549.2.11, key length 0 is not supported"},
		"key length":       {withPBKDF2(t, 2048, 32, hmacSHA256), "key length 32 is not supported"},
		"endless":          {withPBKDF2(t, math.MaxInt32, 0, hmacSHA256), "2147483647 iterations of PBKDF2; 4000000"},
		"negative":         {withPBKDF2(t, -1, 0, hmacSHA256), "-1 iterations of PBKDF2"},
		"vast scrypt":      {withScrypt(t, 1<<20, 1<<10, 1), "takes more than 64 MiB"},
		"scrypt of 2^62":   {withScrypt(t, 1<<62, 4, 1), "takes more than 64 MiB"},
		"scrypt in rounds": {withScrypt(t, 1<<14, 8, 1<<20), "or 16 rounds"},
	} {
		_, err := tlsopts.ParsePairs([]byte("passphrase"), pemFile(tt.key))
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "openssl pkcs8 -topk8") {
			t.Errorf("%s: error %v does not say %q", name, err, tt.want)
		}
	}
}
