package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/nearest"
)

// Prefix is what the names of all variables begin with.
const Prefix = "SMTP_TLSPROXY_"

// The variables, without their prefix.
const (
	varConfig      = "CONFIG"
	varBackend     = "BACKEND"
	varPreset      = "BACKEND_PRESET"
	varDirectory   = "CERTIFICATES"
	varDefault     = "DEFAULT_CERTIFICATE"
	varSubmissions = "LISTEN_SUBMISSIONS"
	varSubmission  = "LISTEN_SUBMISSION"
	varMX          = "LISTEN_MX"
	varAdmin       = "ADMIN"
	varLogLevel    = "LOG_LEVEL"
	varLogFormat   = "LOG_FORMAT"
)

var variables = []string{varConfig, varBackend, varPreset, varDirectory, varDefault, varSubmissions, varSubmission, varMX, varAdmin, varLogLevel, varLogFormat}

// standard are the listeners that variables are for, and those of a container
// that starts without a file. The ports need no privilege.
var standard = []struct {
	variable string
	listener Listener
}{
	{varSubmissions, Listener{Name: "submissions", Address: ":2465", Mode: ModeImplicitTLS}},
	{varSubmission, Listener{Name: "submission", Address: ":2587", Mode: ModeSTARTTLS, STARTTLS: STARTTLSRequired}},
	{varMX, Listener{Name: "mx", Address: ":2525", Mode: ModeSTARTTLS, STARTTLS: STARTTLSOptional}},
}

// off leaves a standard listener out.
const off = "off"

// standardDirectory is where a container has its certificates mounted.
const standardDirectory = "/certs"

// Environment is what the variables with our prefix say, by their names without
// it. It counts before the file.
type Environment map[string]string

// ParseEnvironment takes our variables out of an environment in the form of
// os.Environ. One that is not known is an error, but for those with which
// Kubernetes tells of a service that is named as we are.
func ParseEnvironment(environ []string) (Environment, error) {
	env := make(Environment)
	var faults Faults
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		short, ours := strings.CutPrefix(name, Prefix)
		switch {
		case !ours || value == "" || serviceLink.MatchString("_"+short):
		case slices.Contains(variables, short):
			env[short] = value
		default:
			text := "this variable is not known: the variables are " + Prefix + strings.Join(variables, ", "+Prefix)
			if near := nearest.Name(short, variables); near != "" {
				text = fmt.Sprintf("this variable is not known: did you mean %s%s?", Prefix, near)
			}
			faults = append(faults, Fault{File: name, Text: text})
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return env, nil
}

// serviceLink matches the end of what Kubernetes calls service links.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)?)$`)

// File is the configuration file that the environment names, "" for none.
func (env Environment) File() string { return env[varConfig] }

// StandsAlone tells whether the environment is enough without a file.
func (env Environment) StandsAlone() bool { return env[varBackend] != "" }

// Directory is the certificate directory that the environment names, "" for none.
func (env Environment) Directory() string { return env[varDirectory] }

// apply puts the environment over what the file says. Without a file it is all
// there is.
func (s *source) apply(env Environment, cfg *Config, alone bool) {
	if alone {
		s.standAlone(env, cfg)
	} else {
		s.applyListeners(env, cfg)
	}
	s.applyBackend(env, cfg, alone)
	s.setFrom(env, varDirectory, &cfg.Certificates.Directory)
	if directory, err := filepath.Abs(cfg.Certificates.Directory); err == nil && env[varDirectory] != "" {
		cfg.Certificates.Directory = directory // and not seen from the file
	}
	s.setFrom(env, varDefault, &cfg.Certificates.Default)
	s.setFrom(env, varAdmin, &cfg.Admin.Address)
	s.setFrom(env, varLogLevel, &cfg.Log.Level)
	s.setFrom(env, varLogFormat, &cfg.Log.Format)
}

// setFrom sets a field to what a variable says, if it is set.
func (s *source) setFrom(env Environment, variable string, field any) {
	text := env[variable]
	if text == "" {
		return
	}
	o := origin{variable: Prefix + variable, state: set}
	if err := setText(field, text); err != nil {
		s.report(o, "%v", err)
		o.state = faulty
	}
	s.origins[field] = o
}

// standAlone makes what a file would have to say.
func (s *source) standAlone(env Environment, cfg *Config) {
	here := origin{variable: Prefix + varBackend, state: set}
	cfg.Certificates.Directory = standardDirectory
	s.origins[&cfg.Certificates.Directory] = here
	cfg.Backends = map[string]*Backend{"mta": {}}
	s.mark(reflect.ValueOf(cfg.Backends["mta"]).Elem(), origin{variable: here.variable})
	for _, each := range standard {
		if env[each.variable] != off {
			cfg.Listeners = append(cfg.Listeners, each.listener)
		}
	}
	for i := range cfg.Listeners { // which do not move any more
		s.standardListener(env, &cfg.Listeners[i])
	}
}

// standardListener gives the fields of a standard listener their origin.
func (s *source) standardListener(env Environment, l *Listener) {
	variable := varBackend
	for _, each := range standard {
		if each.listener.Name == l.Name && env[each.variable] != "" {
			variable = each.variable
		}
	}
	o := origin{variable: Prefix + variable}
	s.mark(reflect.ValueOf(l).Elem(), o)
	o.state = set
	for _, field := range []any{&l.Name, &l.Address, &l.Mode} {
		s.origins[field] = o
	}
	if l.Mode == ModeSTARTTLS {
		s.origins[&l.STARTTLS] = o
	}
	if variable != varBackend {
		s.setFrom(env, variable, &l.Address)
	}
}

// applyListeners changes addresses of listeners that the file has.
func (s *source) applyListeners(env Environment, cfg *Config) {
	for _, each := range standard {
		if env[each.variable] == "" {
			continue
		}
		i := slices.IndexFunc(cfg.Listeners, func(l Listener) bool { return l.Name == each.listener.Name })
		if i < 0 || env[each.variable] == off {
			s.report(origin{variable: Prefix + each.variable},
				"it changes the address of the file's listener %q, which has to be there: change the file instead", each.listener.Name)
			continue
		}
		s.setFrom(env, each.variable, &cfg.Listeners[i].Address)
	}
}

// applyBackend sets the addresses and the preset of the one backend.
func (s *source) applyBackend(env Environment, cfg *Config, alone bool) {
	if env[varBackend] == "" && env[varPreset] == "" {
		return
	}
	if len(cfg.Backends) != 1 {
		for _, variable := range []string{varBackend, varPreset} {
			if env[variable] != "" {
				s.report(origin{variable: Prefix + variable}, "it is for the only backend, and the file has %d: change the file instead", len(cfg.Backends))
			}
		}
		return
	}
	b := cfg.Backends[slices.Collect(maps.Keys(cfg.Backends))[0]]
	s.setFrom(env, varPreset, &b.Preset)
	if env[varBackend] == "" {
		return
	}
	o := origin{variable: Prefix + varBackend, state: set}
	b.Addresses = nil
	for address := range strings.SplitSeq(env[varBackend], ",") {
		b.Addresses = append(b.Addresses, strings.TrimSpace(address))
	}
	s.origins[&b.Addresses] = o
	for i := range b.Addresses {
		s.origins[&b.Addresses[i]] = o
	}
}
