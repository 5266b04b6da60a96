package tlsopts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// separators stand between the parts of a cipher string. OpenSSL takes the
// first four; tab and newline come with strings that are folded in a file.
const separators = ":,; \t\r\n"

// cipherRules are a parsed cipher string.
type cipherRules struct {
	rules  []cipherRule
	level  int    // the last @SECLEVEL, or -1
	suiteB string // the word that decided alone, or ""
}

// cipherRule is one part of a cipher string.
type cipherRule struct {
	text string // as written
	// operation is the character before the part: '!', '-', '+', or 0 to add.
	// It is '@' for @STRENGTH.
	operation byte
	traits    []traits // a suite must have one of each
	suites    []*suite // a suite must be each of them: one, as a rule
	retired   bool     // holds a name that chooses nothing
	tls13     bool     // holds a name of TLS 1.3
	weak      bool     // may add suites with weak encryption, for it names them
}

// defaultRules are what DEFAULT stands for (openssl-ciphers(1)).
const defaultRules = "ALL:!COMPLEMENTOFDEFAULT:!eNULL"

// parseRules reads a cipher string.
func parseRules(s string) (*cipherRules, error) {
	r := &cipherRules{level: -1}
	s = strings.TrimLeft(s, separators)
	s, done, err := r.parseFirst(s)
	if err != nil || done {
		return r, err
	}
	for s = strings.TrimLeft(s, separators); s != ""; s = strings.TrimLeft(s, separators) {
		if s, err = r.parsePart(s); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// parseFirst reads the words that may only come first. It returns what follows,
// or that nothing does.
func (r *cipherRules) parseFirst(s string) (rest string, done bool, err error) {
	word, after := cutName(s)
	for _, name := range suiteB[word] {
		r.rules = append(r.rules, cipherRule{text: word, suites: []*suite{suiteByName[name]}})
	}
	if suiteB[word] != nil {
		r.suiteB = word
		return "", true, nil
	}
	if word != "DEFAULT" && !strings.HasPrefix(s, "DEFAULT-") {
		return s, false, nil
	}
	if strings.HasPrefix(after, "+") {
		return "", false, errors.New(`DEFAULT cannot be combined with "+": want "DEFAULT:+NAME" to move suites to the end`)
	}
	defaults, err := parseRules(defaultRules)
	if err != nil {
		return "", false, err
	}
	r.rules = defaults.rules
	return s[len("DEFAULT"):], false, nil
}

// parsePart reads one part and returns what follows.
func (r *cipherRules) parsePart(s string) (rest string, err error) {
	whole := s
	rule := cipherRule{}
	if strings.IndexByte("!-+@", s[0]) >= 0 {
		rule.operation, s = s[0], s[1:]
	}
	if rule.operation == '@' {
		return r.parseCommand(s)
	}
	for {
		name, after := cutName(s)
		if name == "" {
			return "", missingName(whole, after)
		}
		if err := rule.name(name); err != nil {
			return "", err
		}
		if s = after; !strings.HasPrefix(s, "+") {
			break
		}
		s = s[1:]
	}
	if s != "" && strings.IndexByte(separators+"!@", s[0]) < 0 {
		return "", missingName(whole, s)
	}
	rule.text = whole[:len(whole)-len(s)]
	r.rules = append(r.rules, rule)
	return s, nil
}

// missingName is the error for a part that goes on with something else than a
// name.
func missingName(part, rest string) error {
	part = part[:len(part)-len(rest)]
	if rest == "" || strings.IndexByte(separators, rest[0]) >= 0 {
		return fmt.Errorf("a name is missing after %q in the cipher string", part)
	}
	where := ""
	if part != "" {
		where = fmt.Sprintf(" after %q", part)
	}
	return fmt.Errorf("unexpected %q%s in the cipher string: want names of suites and keywords with %q between them", []rune(rest)[0], where, ":")
}

// parseCommand reads what follows an "@".
func (r *cipherRules) parseCommand(s string) (rest string, err error) {
	command, rest := cutName(s)
	level, isLevel := strings.CutPrefix(command, "SECLEVEL=")
	switch {
	case rest != "" && strings.IndexByte(separators, rest[0]) < 0:
		return "", missingName("@"+s, rest)
	case command == "STRENGTH":
		r.rules = append(r.rules, cipherRule{text: "@STRENGTH", operation: '@'})
	case isLevel && len(level) == 1 && '0' <= level[0] && level[0] <= '5':
		r.level = int(level[0] - '0')
	case isLevel:
		return "", fmt.Errorf("@SECLEVEL=%s: want a security level from 0 to 5", level)
	default:
		return "", fmt.Errorf("%q is not a command of cipher strings: want @STRENGTH or @SECLEVEL=n", "@"+command)
	}
	return rest, nil
}

// name narrows the rule to what a name stands for.
func (r *cipherRule) name(name string) error {
	if sets, ok := keywords[name]; ok {
		r.traits = append(r.traits, sets...)
		r.weak = r.weak || sets[0]&^weakEncryption == 0 && name != "MEDIUM"
		return nil
	}
	if s := suiteByName[name]; s != nil {
		r.suites = append(r.suites, s)
		r.weak = true
		return nil
	}
	switch {
	case retired[name]:
		r.retired = true
	case tls13Names[name]:
		r.tls13 = true
	case name == "DEFAULT" || suiteB[name] != nil:
		return fmt.Errorf("%s must come first in a cipher string", name)
	default:
		return fmt.Errorf("%q is not the name of a cipher suite or keyword: %s", name, cipherAdvice(name))
	}
	return nil
}

// foreign are words that belong to other programs or options.
var foreign = map[string]string{
	"PROFILE=SYSTEM": "Fedora's system-wide policy is not known here; leave ciphers out to take the profile's suites",
	"auto":           "leave ciphers out to take the profile's suites",
	"NORMAL":         "this is a priority string of GnuTLS; want one of OpenSSL, such as ECDHE+AESGCM",
	"SECURE128":      "this is a priority string of GnuTLS; want one of OpenSSL, such as ECDHE+AESGCM",
	"SECURE256":      "this is a priority string of GnuTLS; want one of OpenSSL, such as ECDHE+AES256",
}

func cipherAdvice(name string) string {
	if advice := foreign[name]; advice != "" {
		return advice
	}
	known := slices.Concat(sortedKeys(keywords), sortedKeys(suiteByName), sortedKeys(suiteB), []string{"DEFAULT"})
	return didYouMean(name, known, `see "openssl ciphers -stdname ALL" for names, and openssl-ciphers(1) for keywords`)
}

// cutName splits off the name at the start of s. The underscore is for IANA's
// names; OpenSSL 3.0 does not take it.
func cutName(s string) (name, rest string) {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '=', c == '_':
		default:
			return s[:i], s[i:]
		}
	}
	return s, ""
}

// chooses tells whether the rule stands for s.
func (r *cipherRule) chooses(s *suite) bool {
	if r.retired || r.tls13 {
		return false
	}
	for _, t := range r.traits {
		if !s.has(t) {
			return false
		}
	}
	for _, named := range r.suites {
		if s != named {
			return false
		}
	}
	return true
}

// adds tells whether the rule, which has no operation, may add s.
func (r *cipherRule) adds(s *suite) bool {
	return r.chooses(s) && (r.weak || !s.has(weakEncryption))
}
