package tlsopts

import "slices"

// Keywords are all keywords of cipher strings.
func Keywords() []string { return sortedKeys(keywords) }

// AllSuites gives the suites, also those that Go has not, that a cipher string
// chooses and that a distribution's OpenSSL has, without a regard to the
// security level.
func AllSuites(s string) ([]string, error) {
	rules, err := parseRules(s)
	if err != nil {
		return nil, err
	}
	rules.level = -1
	var names []string
	for _, s := range rules.run(new(tally)) {
		if !s.has(weakEncryption) {
			names = append(names, s.name)
		}
	}
	return names, nil
}

// StandardNames are the IANA names of all suites, by id.
func StandardNames() map[uint16]string {
	names := make(map[uint16]string)
	for _, s := range suites {
		names[s.id] = s.standard
	}
	return names
}

// IsServed tells whether a cipher string can choose the suite of that name, and
// a distribution's OpenSSL has it.
func IsServed(name string) bool {
	s := suiteByName[name]
	return s != nil && goSuites[s.id] && !s.has(weakEncryption)
}

// IsWeak tells whether the suite is left out of a distribution's OpenSSL.
func IsWeak(id uint16) bool { return suiteByID[id].has(weakEncryption) }

// GoSuites are the names of the suites that a cipher string can choose.
func GoSuites() []string {
	var names []string
	for id := range goSuites {
		names = append(names, suiteByID[id].name)
	}
	slices.Sort(names)
	return names
}
