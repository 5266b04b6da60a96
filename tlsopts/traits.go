package tlsopts

// traits are the properties by which cipher strings choose suites. A suite has
// one bit of each group.
type traits uint64

// The traits, group by group: key exchange, authentication, encryption, MAC,
// and the version of the protocol that introduced the suite.
const (
	kxRSA traits = 1 << iota
	kxDHE
	kxECDHE
	kxPSK
	kxRSAPSK
	kxDHEPSK
	kxECDHEPSK
	kxSRP

	authRSA
	authDSS
	authECDSA
	authPSK
	authSRP
	authNone

	aes128CBC
	aes256CBC
	aes128GCM
	aes256GCM
	aes128CCM
	aes256CCM
	aes128CCM8
	aes256CCM8
	aria128
	aria256
	camellia128
	camellia256
	chaCha20
	tripleDES
	rc4
	seed
	idea
	encNone

	macMD5
	macSHA1
	macSHA256
	macSHA384
	macAEAD

	sinceSSL3
	sinceTLS10
	sinceTLS12
)

// Families that several keywords and rules are made of.
const (
	aesCBC      = aes128CBC | aes256CBC
	aesGCM      = aes128GCM | aes256GCM
	aesCCM8     = aes128CCM8 | aes256CCM8
	aesCCM      = aes128CCM | aes256CCM | aesCCM8
	aria        = aria128 | aria256
	camellia    = camellia128 | camellia256
	anyPSK      = kxPSK | kxRSAPSK | kxDHEPSK | kxECDHEPSK
	forwardKeys = kxDHE | kxECDHE | kxDHEPSK | kxECDHEPSK
	authKnown   = authRSA | authDSS | authECDSA | authPSK | authSRP
	encrypted   = strongEncryption | weakEncryption

	strongEncryption = aesCBC | aesGCM | aesCCM | aria | camellia | chaCha20

	// weakEncryption is left out of OpenSSL unless it is built with
	// enable-weak-ssl-ciphers.
	weakEncryption = tripleDES | rc4 | seed | idea
)

// strengths are the bits of security that OpenSSL reckons for an encryption,
// which @STRENGTH sorts by and @SECLEVEL asks for.
var strengths = []struct {
	encryption traits
	bits       int
}{
	{aes256CBC | aes256GCM | aes256CCM | aes256CCM8 | aria256 | camellia256 | chaCha20, 256},
	{aes128CBC | aes128GCM | aes128CCM | aes128CCM8 | aria128 | camellia128 | seed | idea, 128},
	{tripleDES, 112},
	{rc4, 80},
	{encNone, 0},
}

// suite is a cipher suite of TLS 1.2 or below.
type suite struct {
	id       uint16
	name     string // as OpenSSL has it
	standard string // as IANA has it
	traits   traits
}

func (s *suite) has(t traits) bool {
	return s.traits&t != 0
}

func (s *suite) strength() int {
	for _, row := range strengths {
		if s.has(row.encryption) {
			return row.bits
		}
	}
	return 0
}
