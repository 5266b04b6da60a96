package tlsopts

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// policy is what Options come to once every default is filled in.
type policy struct {
	profile     Profile
	min, max    Version
	suites      []uint16 // TLS 1.2 and below, most preferred first
	clientOrder bool
	groups      []tls.CurveID
	groupOrder  bool // the order of groups decides
	protocols   []string
	notes       []string
}

// resolve fills in the defaults and reports all faults at once.
func (o Options) resolve() (*policy, error) {
	p := &policy{profile: o.Profile, clientOrder: o.HonorCipherOrder == ClientOrder}
	var errs []error
	check := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	if p.profile == "" {
		p.profile = Intermediate
	}
	check("profile", p.profile.check())
	if o.HonorCipherOrder != "" {
		check("honor_cipher_order", o.HonorCipherOrder.check())
	}
	check("min_version", o.MinVersion.check())
	check("max_version", o.MaxVersion.check())
	var err error
	p.protocols, err = o.ALPN.protocols()
	check("alpn", err)
	check("curves", p.setGroups(o.Curves))
	errs = append(errs, p.setVersions(o))
	check("ciphers", p.setSuites(o.Ciphers))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p.approvedOnly()
	errs = append(refuseEnvironment(p), p.checkUse())
	return p, errors.Join(errs...)
}

func (p *policy) setGroups(c Curves) error {
	groups, absent, err := c.groups()
	p.groups, p.groupOrder = groups, c != "" && c != CurvesAuto
	if len(absent) > 0 {
		p.notes = append(p.notes, strings.Join(absent, ", ")+": passed over, Go has not these curves")
	}
	return err
}

func (p *policy) setVersions(o Options) error {
	p.min, p.max = profileMin[p.profile], TLS13
	if o.MinVersion != 0 {
		p.min = o.MinVersion
	}
	if o.MaxVersion != 0 {
		p.max = o.MaxVersion
	}
	switch {
	case p.min <= p.max:
		return nil
	case o.MinVersion == 0:
		return fmt.Errorf("max_version %s is below %s, the lowest of profile %s: set min_version as well, or another profile",
			p.max, p.min, p.profile)
	}
	return fmt.Errorf("min_version %s is above max_version %s", p.min, p.max)
}

func (p *policy) setSuites(c Ciphers) error {
	if c == "" {
		p.suites = p.profile.suites(p.min)
		return nil
	}
	list, err := ParseCiphers(string(c))
	p.suites = list.Suites
	if p.min == TLS13 && err == nil {
		list.Notes = []string{"ciphers has no effect, for it is about TLS 1.2 and below, which are off"}
	}
	p.notes = append(p.notes, list.Notes...)
	return err
}

// checkUse notes the versions that no client could use, and fails if that are
// all.
func (p *policy) checkUse() error {
	var dead []string
	versions := p.versions()
	if len(versions) == 0 || len(p.groups) == 0 {
		return errors.New("nothing remains of the versions or curves in FIPS 140-3 mode: add TLSv1.2 or above, and P-256")
	}
	for _, v := range versions {
		if v < TLS13 && !p.usable(v) {
			dead = append(dead, v.String())
		}
	}
	if len(dead) == 0 {
		return nil
	}
	why := strings.Join(dead, ", ") + ": cannot be used, because none of the cipher suites and curves fits"
	if len(dead) == len(versions) {
		return errors.New(why + "; add some, such as ECDHE+AES to ciphers and P-256 to curves")
	}
	p.notes = append(p.notes, why)
	return nil
}

// usable tells whether a suite can be used with v, which is below TLS 1.3.
func (p *policy) usable(v Version) bool {
	curve := slices.ContainsFunc(p.groups, func(id tls.CurveID) bool { return !isHybrid(id) })
	return slices.ContainsFunc(p.suites, func(id uint16) bool {
		s := suiteByID[id]
		return (v >= TLS12 || !s.has(sinceTLS12)) && (curve || !s.has(kxECDHE))
	})
}

// versions are those accepted, lowest first.
func (p *policy) versions() []Version {
	return slices.DeleteFunc([]Version{TLS10, TLS11, TLS12, TLS13}, func(v Version) bool { return v < p.min || v > p.max })
}

// config makes the configuration. The caller owns it.
func (p *policy) config() *tls.Config {
	return &tls.Config{
		MinVersion:             uint16(p.min),
		MaxVersion:             uint16(p.max),
		CipherSuites:           p.suites,
		CurvePreferences:       slices.Clone(p.groups),
		NextProtos:             p.protocols,
		SessionTicketsDisabled: true,
	}
}
