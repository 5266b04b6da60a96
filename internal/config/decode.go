package config

import (
	"bytes"
	"encoding"
	"errors"
	"io"
	"iter"
	"reflect"
	"regexp"
	"strconv"

	"gopkg.in/yaml.v3" // archived: imported in this file only, so that a swap stays here

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/nearest"
)

// decode sets in target, a pointer to a group, what data says, and reports what
// cannot be. It returns false when there is nothing to check further, which is
// no fault by itself: data may be empty.
func (s *source) decode(data []byte, target any) bool {
	var first, second yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(data))
	err := documents.Decode(&first)
	switch {
	case errors.Is(err, io.EOF), err == nil && isNull(first.Content[0]):
		return false
	case err != nil:
		s.reportSyntax(err)
		return false
	}
	err = documents.Decode(&second)
	switch {
	case err == nil:
		s.report(placeOf(&second), "a second YAML document begins here: a configuration file holds one")
	case !errors.Is(err, io.EOF):
		s.reportSyntax(err)
	}
	s.decodeNode(first.Content[0], reflect.ValueOf(target).Elem())
	return true
}

// adminAddress finds one value in a file that may have faults elsewhere.
func adminAddress(data []byte) string {
	var found struct {
		Admin struct {
			Address string `yaml:"address"`
		} `yaml:"admin"`
	}
	_ = yaml.Unmarshal(data, &found) // it sets what it can
	return found.Admin.Address
}

// decodeNode sets v, which is addressable, from n. What stands in v already is
// the default of whatever n does not mention.
func (s *source) decodeNode(n *yaml.Node, v reflect.Value) {
	if !isPlain(n) {
		s.refuse(n, v, notPlain)
		return
	}
	s.origins[v.Addr().Interface()] = stateAt(n, set)
	if list, ok := v.Addr().Interface().(listUnmarshaler); ok && n.Kind == yaml.SequenceNode {
		s.decodeWords(n, v, list)
		return
	}
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		s.decodeScalar(n, v)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		s.decodeGroup(n, v)
	case reflect.Map:
		s.decodeNamed(n, v)
	case reflect.Slice:
		s.decodeList(n, v)
	default:
		s.decodeScalar(n, v)
	}
}

// decodeGroup sets a struct from a mapping whose keys are its yaml tags.
func (s *source) decodeGroup(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		s.refuse(n, v, "want keys with values, found "+kindOf(n))
		return
	}
	keys, fields := fieldsOf(v)
	for _, field := range fields {
		s.mark(field, stateAt(n, unset))
	}
	for key, value := range s.pairs(n) {
		field, known := fields[key.Value]
		switch {
		case !known:
			near := nearest.Name(key.Value, keys)
			s.report(placeOf(key), "%s", unknownKey(key.Value, near, keys))
			if near != "" { // else the key that was meant would be missing, too
				s.mark(fields[near], stateAt(key, faulty))
			}
		case !isNull(value):
			s.decodeNode(value, field)
		}
	}
}

// decodeNamed sets a map of pointers from a mapping with names as keys. The
// origin of an element is its name.
func (s *source) decodeNamed(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		s.refuse(n, v, "want names with keys under them, found "+kindOf(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for key, value := range s.pairs(n) {
		element := reflect.New(v.Type().Elem().Elem())
		v.SetMapIndex(reflect.ValueOf(key.Value), element)
		s.mark(element.Elem(), stateAt(key, unset))
		if !isNull(value) {
			s.decodeNode(value, element.Elem())
		}
		s.origins[element.Interface()] = stateAt(key, s.origins[element.Interface()].state)
	}
}

// decodeList sets a slice from a sequence.
func (s *source) decodeList(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		s.refuse(n, v, "want a list, found "+kindOf(n))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		if isNull(item) {
			s.refuse(item, v.Index(i), "an empty list item: give it a value or remove it")
			continue
		}
		s.decodeNode(item, v.Index(i))
	}
}

// listUnmarshaler is a value that is written as a word or as a list of words.
type listUnmarshaler interface{ UnmarshalList(words []string) error }

func (s *source) decodeWords(n *yaml.Node, v reflect.Value, list listUnmarshaler) {
	words := make([]string, len(n.Content))
	for i, item := range n.Content {
		switch {
		case !isPlain(item):
			s.refuse(item, v, notPlain)
			return
		case item.Kind != yaml.ScalarNode || isNull(item):
			s.refuse(item, v, "want a list of text")
			return
		}
		words[i] = item.Value
	}
	if err := list.UnmarshalList(words); err != nil {
		s.refuse(n, v, err.Error())
	}
}

func (s *source) decodeScalar(n *yaml.Node, v reflect.Value) {
	target := v.Addr().Interface()
	if n.Kind != yaml.ScalarNode {
		s.refuse(n, v, "want "+wanted(target)+", found "+kindOf(n))
		return
	}
	if err := setText(target, n.Value); err != nil {
		s.refuse(n, v, err.Error())
	}
}

// pairs are the keys and values of a mapping, in file order, without those
// whose key cannot be one.
func (s *source) pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		lines := make(map[string]int)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			line, twice := lines[key.Value]
			switch {
			case !isPlain(key):
				s.report(placeOf(key), notPlain)
			case key.Kind != yaml.ScalarNode:
				s.report(placeOf(key), "a key must be text, found %s", kindOf(key))
			case twice:
				s.report(placeOf(key), "key %q is written twice: the first is on line %d", key.Value, line)
			default:
				lines[key.Value] = key.Line
				if !yield(key, value) {
					return
				}
			}
		}
	}
}

// refuse reports that n cannot be the value of v.
func (s *source) refuse(n *yaml.Node, v reflect.Value, text string) {
	s.mark(v, stateAt(n, faulty))
	s.report(placeOf(n), "%s", text)
}

// fieldsOf gives the keys of a group, in the order of its struct, and the
// field of each.
func fieldsOf(v reflect.Value) (keys []string, fields map[string]reflect.Value) {
	fields = make(map[string]reflect.Value)
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		if key == "" {
			continue // not of the file
		}
		keys = append(keys, key)
		fields[key] = v.Field(i)
	}
	return keys, fields
}

func placeOf(n *yaml.Node) origin { return origin{line: n.Line, column: n.Column} }

func stateAt(n *yaml.Node, st state) origin { return origin{line: n.Line, column: n.Column, state: st} }

// isNull tells a value that was left out: nothing, ~ or null.
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && isPlain(n)
}

// notPlain is the fault of a node that is not plain. An alias can make a small
// file a huge one ("billion laughs"), and none of the three has a use here.
const notPlain = "YAML anchors, aliases and tags are not read: write the text itself"

// isPlain tells a node without an anchor, an alias or a tag.
func isPlain(n *yaml.Node) bool {
	return n.Kind != yaml.AliasNode && n.Anchor == "" && n.Style&yaml.TaggedStyle == 0
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	}
	return "text"
}

var (
	// syntaxError takes a message of yaml.v3 apart.
	syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	// lineBefore are the messages for which yaml.v3 counts lines from zero,
	// those of its parser; the others are of its scanner.
	lineBefore = regexp.MustCompile(`^did not find expected (<document start>|key|'-'|',' or|node content)`)
)

// reportSyntax reports an error of yaml.v3. Its line is often that where the
// list or mapping begins that holds the mistake, and on the first line it
// gives none.
func (s *source) reportSyntax(err error) {
	line, text := 0, err.Error()
	if parts := syntaxError.FindStringSubmatch(text); parts != nil {
		line, _ = strconv.Atoi(parts[1])
		text = parts[2]
	}
	if lineBefore.MatchString(text) {
		line++
	}
	s.report(origin{line: max(line, 1)}, "not valid YAML, here or further down: %s", text)
}
