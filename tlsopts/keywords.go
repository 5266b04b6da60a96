package tlsopts

// keywords are the words of openssl-ciphers(1) that stand for many suites: for
// all that have a trait of each of the sets. What the manual leaves out but
// OpenSSL 3.0 takes (ARIAGCM, FIPS) is here, too.
var keywords = map[string][]traits{
	"ALL":                 {encrypted},
	"COMPLEMENTOFALL":     {encNone},
	"COMPLEMENTOFDEFAULT": {encrypted, notDefault},
	"HIGH":                {strongEncryption},
	"MEDIUM":              {weakEncryption},
	"FIPS":                {aesCBC | aesGCM, kxRSA | kxDHE | kxECDHE | anyPSK},

	"RSA":       {kxRSA},
	"kRSA":      {kxRSA},
	"DH":        {kxDHE},
	"kDHE":      {kxDHE},
	"kEDH":      {kxDHE},
	"DHE":       {kxDHE, authKnown},
	"EDH":       {kxDHE, authKnown},
	"ADH":       {kxDHE, authNone},
	"ECDH":      {kxECDHE},
	"kECDHE":    {kxECDHE},
	"kEECDH":    {kxECDHE},
	"ECDHE":     {kxECDHE, authKnown},
	"EECDH":     {kxECDHE, authKnown},
	"AECDH":     {kxECDHE, authNone},
	"PSK":       {anyPSK},
	"kPSK":      {kxPSK},
	"kRSAPSK":   {kxRSAPSK},
	"kDHEPSK":   {kxDHEPSK},
	"kECDHEPSK": {kxECDHEPSK},
	"SRP":       {kxSRP},
	"kSRP":      {kxSRP},

	"aRSA":   {authRSA},
	"aDSS":   {authDSS},
	"DSS":    {authDSS},
	"aECDSA": {authECDSA},
	"ECDSA":  {authECDSA},
	"aPSK":   {authPSK},
	"aSRP":   {authSRP},
	"aNULL":  {authNone},

	"AES":         {aesCBC | aesGCM | aesCCM},
	"AES128":      {aes128CBC | aes128GCM | aes128CCM | aes128CCM8},
	"AES256":      {aes256CBC | aes256GCM | aes256CCM | aes256CCM8},
	"AESGCM":      {aesGCM},
	"AESCCM":      {aesCCM},
	"AESCCM8":     {aesCCM8},
	"ARIA":        {aria},
	"ARIAGCM":     {aria},
	"ARIA128":     {aria128},
	"ARIA256":     {aria256},
	"CAMELLIA":    {camellia},
	"CAMELLIA128": {camellia128},
	"CAMELLIA256": {camellia256},
	"CHACHA20":    {chaCha20},
	"3DES":        {tripleDES},
	"RC4":         {rc4},
	"SEED":        {seed},
	"IDEA":        {idea},
	"CBC":         {aesCBC | camellia | tripleDES | seed | idea},
	"NULL":        {encNone},
	"eNULL":       {encNone},

	"MD5":    {macMD5},
	"SHA":    {macSHA1},
	"SHA1":   {macSHA1},
	"SHA256": {macSHA256},
	"SHA384": {macSHA384},

	"SSLv3":   {sinceSSL3},
	"TLSv1":   {sinceTLS10},
	"TLSv1.0": {sinceTLS10},
	"TLSv1.2": {sinceTLS12},
}

// notDefault is what COMPLEMENTOFDEFAULT takes out of ALL.
const notDefault = authDSS | authNone | aesCCM | aria | camellia | weakEncryption

// suiteB are the keywords that must come first and decide alone (RFC 6460).
var suiteB = map[string][]string{
	"SUITEB128":     {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"},
	"SUITEB128ONLY": {"ECDHE-ECDSA-AES128-GCM-SHA256"},
	"SUITEB192":     {"ECDHE-ECDSA-AES256-GCM-SHA384"},
}

// tls13Names are the names of TLS 1.3 suites, also as early tutorials spell
// them. OpenSSL passes them over in a cipher string, Node.js takes them.
var tls13Names = set(
	"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
	"TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256", "TLSv1.3",
	"TLS13-AES-128-GCM-SHA256", "TLS13-AES-256-GCM-SHA384", "TLS13-CHACHA20-POLY1305-SHA256",
)

// retired are names that OpenSSL had once, has only with an engine, or passes
// over in strings that are widely copied. They choose nothing.
var retired = set(
	"LOW", "EXP", "EXPORT", "EXPORT40", "EXPORT56", "SSLv2", "DES", "RC2", "RSAPSK",
	"kDH", "kDHr", "kDHd", "aDH", "kECDH", "kECDHr", "kECDHe", "aECDH",
	"KRB5", "kKRB5", "aKRB5", "FZA", "kFZA", "aFZA", "eFZA",
	"GOST", "aGOST", "aGOST01", "aGOST12", "aGOST94", "kGOST", "kGOST18",
	"GOST89", "GOST94", "GOST12", "GOST2012", "GOST89MAC", "GOST89MAC12",

	"DES-CBC-SHA", "EDH-RSA-DES-CBC-SHA", "EDH-DSS-DES-CBC-SHA", "ADH-DES-CBC-SHA",
	"EDH-RSA-DES-CBC3-SHA", "EDH-DSS-DES-CBC3-SHA",
	"EXP-RC4-MD5", "EXP-RC2-CBC-MD5", "EXP-DES-CBC-SHA", "EXP-EDH-RSA-DES-CBC-SHA",
	"EXP-EDH-DSS-DES-CBC-SHA", "EXP-ADH-RC4-MD5", "EXP-ADH-DES-CBC-SHA",
	"EXP1024-RC4-SHA", "EXP1024-DES-CBC-SHA", "EXP1024-DHE-DSS-RC4-SHA",
	"EXP1024-DHE-DSS-DES-CBC-SHA", "DHE-DSS-RC4-SHA",
	"KRB5-DES-CBC-SHA", "KRB5-DES-CBC-MD5", "KRB5-DES-CBC3-SHA", "KRB5-DES-CBC3-MD5",
	"KRB5-RC4-SHA", "KRB5-RC4-MD5", "KRB5-IDEA-CBC-SHA", "KRB5-IDEA-CBC-MD5",

	"DH-RSA-DES-CBC3-SHA", "DH-DSS-DES-CBC3-SHA", "DH-RSA-SEED-SHA", "DH-DSS-SEED-SHA",
	"DH-RSA-AES128-SHA", "DH-RSA-AES256-SHA", "DH-DSS-AES128-SHA", "DH-DSS-AES256-SHA",
	"DH-RSA-AES128-SHA256", "DH-RSA-AES256-SHA256", "DH-DSS-AES128-SHA256", "DH-DSS-AES256-SHA256",
	"DH-RSA-AES128-GCM-SHA256", "DH-RSA-AES256-GCM-SHA384",
	"DH-DSS-AES128-GCM-SHA256", "DH-DSS-AES256-GCM-SHA384",
	"DH-RSA-CAMELLIA128-SHA", "DH-RSA-CAMELLIA256-SHA", "DH-DSS-CAMELLIA128-SHA", "DH-DSS-CAMELLIA256-SHA",
	"ECDH-RSA-RC4-SHA", "ECDH-ECDSA-RC4-SHA", "ECDH-RSA-DES-CBC3-SHA", "ECDH-ECDSA-DES-CBC3-SHA",
	"ECDH-RSA-AES128-SHA", "ECDH-RSA-AES256-SHA", "ECDH-ECDSA-AES128-SHA", "ECDH-ECDSA-AES256-SHA",
	"ECDH-RSA-AES128-SHA256", "ECDH-RSA-AES256-SHA384", "ECDH-ECDSA-AES128-SHA256", "ECDH-ECDSA-AES256-SHA384",
	"ECDH-RSA-AES128-GCM-SHA256", "ECDH-RSA-AES256-GCM-SHA384",
	"ECDH-ECDSA-AES128-GCM-SHA256", "ECDH-ECDSA-AES256-GCM-SHA384",

	"ECDHE-RSA-AES256-SHA256", "DHE-RSA-AES256-SHA384", // never were, but stand in Node.js' default

	"GOST94-GOST89-GOST89", "GOST2001-GOST89-GOST89", "GOST94-NULL-GOST94", "GOST2001-NULL-GOST94",
	"GOST2012-GOST8912-GOST8912", "GOST2012-NULL-GOST12",
	"LEGACY-GOST2012-GOST8912-GOST8912", "IANA-GOST2012-GOST8912-GOST8912",
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, name := range names {
		m[name] = true
	}
	return m
}
