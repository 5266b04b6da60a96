package tlsopts

import (
	"crypto/fips140"
	"crypto/tls"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

// Most of GODEBUG has no effect on a configuration that names its versions and
// suites (tls10server, tlsrsakex, tls3des). These settings have one that no
// field of tls.Config can undo, so that they are refused.

// refuseEnvironment gives an error for each setting of GODEBUG, in the
// environment or built in, that would weaken p.
func refuseEnvironment(p *policy) []error {
	settings := godebug(builtIn() + "," + os.Getenv("GODEBUG"))
	var errs []error
	lost := func(setting string, groups ...tls.CurveID) {
		groups = slices.DeleteFunc(groups, func(id tls.CurveID) bool { return !slices.Contains(p.groups, id) })
		if len(groups) > 0 {
			errs = append(errs, fmt.Errorf("GODEBUG=%s switches off %s: remove it, or set curves to a list without",
				setting, strings.Join(groupNames(groups), ", ")))
		}
	}
	switch {
	case settings["tlsmlkem"] == "0":
		lost("tlsmlkem=0", tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024)
	case settings["tlssecpmlkem"] == "0":
		lost("tlssecpmlkem=0", tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024)
	}
	if settings["tlssha1"] == "1" && p.min <= TLS12 && p.max >= TLS12 {
		errs = append(errs, fmt.Errorf("GODEBUG=tlssha1=1 allows signatures with SHA-1 in TLS 1.2 (RFC 9155): remove it"))
	}
	return errs
}

// builtIn are the settings that the main module of the program was built with.
func builtIn() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "DefaultGODEBUG" {
			return setting.Value
		}
	}
	return ""
}

// godebug reads settings as the runtime does: of one that is named twice
// the last counts.
func godebug(list string) map[string]string {
	settings := make(map[string]string)
	for setting := range strings.SplitSeq(list, ",") {
		if key, value, ok := strings.Cut(setting, "="); ok {
			settings[key] = value
		}
	}
	return settings
}

// approvedOnly takes out of p what crypto/tls does not do in FIPS 140-3 mode,
// so that nothing is chosen that the handshake then lacks.
func (p *policy) approvedOnly() {
	if !fips140.Enabled() {
		return
	}
	p.notes = append(p.notes, "FIPS 140-3 mode: only what it approves is on")
	p.min = max(p.min, TLS12)
	p.suites = slices.DeleteFunc(p.suites, func(id uint16) bool {
		s := suiteByID[id]
		return !s.has(kxECDHE) || !s.has(aesGCM) && !s.has(macSHA256)
	})
	p.groups = slices.DeleteFunc(slices.Clone(p.groups), func(id tls.CurveID) bool { return id == tls.X25519 })
}
