package tlsopts

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Curves are the key exchange groups that are accepted: CurvesAuto, or a list of
// names in order of preference with ":" between them, as CurvesOf makes it. The
// zero value means "not set": CurvesAuto. It is the option ecdhCurve of Node.js,
// ssl_ecdh_curve of nginx and Groups of OpenSSL.
//
// The names are X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024 (TLS 1.3
// only), X25519, P-256, P-384 and P-521, in capitals or not. P-256 may be called
// prime256v1 or secp256r1, as OpenSSL does, and the others likewise. Groups that
// OpenSSL has and Go has not (X448, ffdhe2048, ...) are passed over with a note.
//
// With a list, a [Server] takes the first of its groups that the client
// supports, also if the client must be asked for another key share, which costs
// a round trip (RFC 8446 section 4.1.4). A *tls.Config alone does not: crypto/tls
// ignores the order of CurvePreferences. With CurvesAuto crypto/tls decides:
// hybrid groups first, then those that need no further round trip, and in TLS
// 1.2 the client's order.
type Curves string

// CurvesAuto are all that crypto/tls has, the hybrid post-quantum ones first.
const CurvesAuto Curves = "auto"

// allCurves are the groups of crypto/tls in its order of preference.
var allCurves = []tls.CurveID{
	tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024,
	tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521,
}

var curveNames = map[tls.CurveID]string{
	tls.X25519MLKEM768: "X25519MLKEM768", tls.SecP256r1MLKEM768: "SecP256r1MLKEM768",
	tls.SecP384r1MLKEM1024: "SecP384r1MLKEM1024", tls.X25519: "X25519",
	tls.CurveP256: "P-256", tls.CurveP384: "P-384", tls.CurveP521: "P-521",
}

// curveByName is by the name in lower case.
var curveByName = map[string]tls.CurveID{
	"x25519mlkem768": tls.X25519MLKEM768, "secp256r1mlkem768": tls.SecP256r1MLKEM768,
	"secp384r1mlkem1024": tls.SecP384r1MLKEM1024, "x25519": tls.X25519,
	"p-256": tls.CurveP256, "prime256v1": tls.CurveP256, "secp256r1": tls.CurveP256,
	"p-384": tls.CurveP384, "secp384r1": tls.CurveP384,
	"p-521": tls.CurveP521, "secp521r1": tls.CurveP521,
}

// absentCurves are groups of OpenSSL that Go has not, in lower case.
var absentCurves = set(
	"x448", "p-224", "secp224r1", "p-192", "prime192v1", "secp256k1",
	"brainpoolp256r1", "brainpoolp384r1", "brainpoolp512r1",
	"brainpoolp256r1tls13", "brainpoolp384r1tls13", "brainpoolp512r1tls13",
	"ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192",
	"mlkem512", "mlkem768", "mlkem1024", "x448mlkem1024", "x25519kyber768draft00",
)

// CurveName gives the name of a group as Curves spells it, or what crypto/tls
// calls one that it has not.
func CurveName(id tls.CurveID) string {
	if name, known := curveNames[id]; known {
		return name
	}
	return id.String()
}

// CurvesOf makes Curves of a list of names.
func CurvesOf(names ...string) (Curves, error) {
	if len(names) == 0 {
		return "", errors.New("the list of curves is empty: want auto, or names such as X25519 and P-256")
	}
	for _, name := range names {
		if name == "" || strings.ContainsAny(name, separators) {
			return "", unknownCurve(name)
		}
	}
	c := Curves(strings.Join(names, ":"))
	_, _, err := c.groups()
	return c, err
}

// UnmarshalList reads names, as [CurvesOf] does.
func (c *Curves) UnmarshalList(names []string) error {
	curves, err := CurvesOf(names...)
	if err == nil {
		*c = curves
	}
	return err
}

// UnmarshalText reads auto, or names with ":", "," or white space between them.
func (c *Curves) UnmarshalText(text []byte) error {
	return c.UnmarshalList(strings.FieldsFunc(string(text), isSeparator))
}

func isSeparator(r rune) bool { return strings.ContainsRune(separators, r) }

// groups are what the names stand for, and the names that Go has no group for.
func (c Curves) groups() (ids []tls.CurveID, absent []string, err error) {
	if c == "" || c == CurvesAuto {
		return allCurves, nil, nil
	}
	for _, name := range strings.FieldsFunc(string(c), isSeparator) {
		id, known := curveByName[strings.ToLower(name)]
		switch {
		case known && slices.Contains(ids, id):
			return nil, nil, fmt.Errorf("the curve %s is in the list twice", curveNames[id])
		case known:
			ids = append(ids, id)
		case absentCurves[strings.ToLower(name)]:
			absent = append(absent, name)
		default:
			return nil, nil, unknownCurve(name)
		}
	}
	if len(ids) == 0 {
		return nil, nil, fmt.Errorf("no curve remains that Go has (%s): add some, such as X25519 and P-256", strings.Join(absent, ", "))
	}
	return ids, absent, nil
}

func unknownCurve(name string) error {
	if name == string(CurvesAuto) {
		return errors.New("auto must stand alone, not in a list of curves")
	}
	const all = "want auto, or a list of X25519MLKEM768, SecP256r1MLKEM768, SecP384r1MLKEM1024, X25519, P-256, P-384, P-521"
	return fmt.Errorf("%q is not the name of a curve: %s", name, didYouMean(name, sortedKeys(curveSpellings), all))
}

// curveSpellings are the names to suggest, in the spelling of their standards.
var curveSpellings = set("X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "X25519",
	"P-256", "P-384", "P-521", "prime256v1", "secp256r1", "secp384r1", "secp521r1")

// isHybrid tells the groups with ML-KEM, which TLS 1.2 has not.
func isHybrid(id tls.CurveID) bool {
	return id == tls.X25519MLKEM768 || id == tls.SecP256r1MLKEM768 || id == tls.SecP384r1MLKEM1024
}

func groupNames(ids []tls.CurveID) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = curveNames[id]
	}
	return names
}
