package config_test

import (
	"bytes"
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
	"github.com/smtp-tlsproxy/smtp-tlsproxy/tlsopts"
)

// The JSON schemas are for editors, which complete keys, show what they mean
// and underline mistakes. They are made here of what the code itself says: keys
// and types of the structs, values and ranges of its refusals, defaults of an
// empty file; and of docs/configuration.md for what a key means. tools/ holds
// them against files.
const (
	schemaFile       = "../../docs/config.schema.json"
	folderSchemaFile = "../../docs/folder.schema.json"
)

var update = flag.Bool("update", false, "write docs/*.schema.json anew")

func TestSchemasAreWhatTheCodeSays(t *testing.T) {
	t.Parallel()
	d := describer{t: t, rows: documentedRows(t)}
	base := newDocument()
	whole := d.group(reflect.TypeFor[config.Config](), "", reflect.ValueOf(base.parse(t)).Elem())
	whole["title"] = "Configuration of smtp-tlsproxy"
	folder := d.group(reflect.TypeFor[config.Folder](), "folder.", reflect.Value{})
	folder["title"] = "tls.yaml of a certificate folder of smtp-tlsproxy"
	delete(folder, "required")
	folder["type"] = []string{"object", "null"} // an empty file sets nothing
	for file, schema := range map[string]object{schemaFile: whole, folderSchemaFile: folder} {
		schema["$schema"] = "http://json-schema.org/draft-07/schema#"
		want := encode(t, schema)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := read(t, file); !bytes.Equal(got, want) {
			t.Errorf("%s is not what the code says: go test ./internal/config -run Schemas -update", file)
		}
	}
}

// object is a piece of JSON.
type object = map[string]any

func encode(t *testing.T, value any) []byte {
	t.Helper()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

// describer makes a schema.
type describer struct {
	t    *testing.T
	rows map[string]documentedRow
}

// group describes a struct; value is what an empty file makes of it, or invalid
// where that depends on another group.
func (d describer) group(group reflect.Type, prefix string, value reflect.Value) object {
	properties, required := object{}, []string{}
	for i := range group.NumField() {
		field := group.Field(i)
		key := field.Tag.Get("yaml")
		if key == "" {
			continue
		}
		var standard reflect.Value
		if value.IsValid() {
			standard = value.Field(i)
		}
		if prefix+key == "listeners[].tls" {
			standard = reflect.Value{}
		}
		needed := isNeeded(d.t, prefix+key)
		if needed {
			required = append(required, key)
		}
		property := d.key(field.Type, prefix+key, standard)
		if row, found := d.rows[documentedAs(prefix+key)]; found {
			property["description"] = plain(row.meaning)
		}
		if needed {
			delete(property, "default") // it is that of newDocument
		} else {
			allowNull(property)
		}
		properties[key] = property
	}
	schema := object{"type": "object", "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

// key describes what stands behind a key.
func (d describer) key(kind reflect.Type, path string, standard reflect.Value) object {
	switch {
	case isGroup(kind):
		return d.group(kind, path+".", standard)
	case kind.Kind() == reflect.Map:
		element := kind.Elem().Elem()
		standard = standard.MapIndex(reflect.ValueOf("mta")).Elem()
		return object{
			"type": "object", "minProperties": 1, "propertyNames": object{"pattern": simpleName},
			"additionalProperties": d.group(element, path+".NAME.", standard),
		}
	case kind.Kind() == reflect.Slice && isGroup(kind.Elem()):
		standard = standard.Index(0)
		list := object{"type": "array", "items": d.group(kind.Elem(), path+"[].", standard)}
		if isNeeded(d.t, path) {
			list["minItems"] = 1
		}
		return list
	case kind.Kind() == reflect.Slice:
		list := object{"type": "array", "items": d.text(kind.Elem(), path)}
		if path == "backends.NAME.proxy_tlvs" || path == "listeners[].proxy_protocol.trusted" {
			list["uniqueItems"] = true
		}
		if strings.Contains(faultOf(path, json.RawMessage("[]"), "the list is empty"), "empty") {
			list["minItems"] = 1
		}
		if standard.IsValid() && !standard.IsNil() {
			list["default"] = standard.Interface()
		}
		return list
	}
	schema := d.text(kind, path)
	if text := standardOf(path, standard); text != nil {
		schema["default"] = text
	}
	return schema
}

// simpleName is what listeners and backends can be called.
const simpleName = "^[a-z0-9_-]{1,63}$"

// durationForm is what time.ParseDuration takes, and zeroForm what of that is nothing.
const (
	durationForm = `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$`
	zeroForm     = `^[^1-9]*$`
)

// text describes what is written as one word, or as a list of words in place of it.
func (d describer) text(kind reflect.Type, path string) object {
	switch kind {
	case reflect.TypeFor[bool](), reflect.TypeFor[tlsopts.CipherOrder]():
		return object{"type": "boolean"}
	case reflect.TypeFor[int]():
		lowest, highest := rangeOf(d.t, path)
		return object{"type": "integer", "minimum": lowest, "maximum": highest}
	case reflect.TypeFor[time.Duration]():
		return object{"type": "string", "pattern": durationForm, "not": object{"type": "string", "pattern": zeroForm}}
	case reflect.TypeFor[tlsopts.Pin]():
		return object{"type": "string", "pattern": "^sha256/[A-Za-z0-9+/]{43}=$"}
	case reflect.TypeFor[tlsopts.Curves]():
		return object{"type": []string{"string", "array"}, "items": object{"type": "string"}, "minItems": 1}
	case reflect.TypeFor[tlsopts.ALPN]():
		return object{"anyOf": []object{{"enum": wordsOf(d.t, path)}, {"type": "array", "items": object{"type": "string"}, "minItems": 1}}}
	case reflect.TypeFor[tlsopts.Ciphers](), reflect.TypeFor[config.Range]():
		return object{"type": "string"}
	}
	if path == "listeners[].name" {
		return object{"type": "string", "pattern": simpleName}
	}
	isEnumeration := reflect.PointerTo(kind).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	if isEnumeration || path == "log.format" || path == "backends.NAME.proxy_tlvs" {
		return object{"enum": wordsOf(d.t, path)}
	}
	if path == "process.user" || path == "certificates.default" {
		return object{"type": []string{"string", "integer"}} // 993, 2026
	}
	return object{"type": "string"}
}

// allowNull lets a key stand without a value.
func allowNull(schema object) {
	switch kind := schema["type"].(type) {
	case string:
		schema["type"] = []string{kind, "null"}
	case []string:
		schema["type"] = append(kind, "null")
	default:
		if list, found := schema["enum"]; found {
			schema["enum"] = append(list.([]any), nil)
		} else {
			schema["anyOf"] = append(schema["anyOf"].([]object), object{"type": "null"})
		}
	}
}

// standardOf is the default of a key as a file writes it, nil if there is none
// or it depends on other keys.
func standardOf(path string, value reflect.Value) any {
	if !value.IsValid() || path == "listeners[].backend" || path == "routes[].backend" || value.IsZero() && value.Kind() == reflect.String {
		return nil
	}
	switch v := value.Interface().(type) {
	case time.Duration:
		if v == 0 {
			return nil
		}
		return regexp.MustCompile(`([mh])0[ms](0s)?$`).ReplaceAllString(v.String(), "$1")
	case slog.Level:
		return strings.ToLower(v.String())
	case tlsopts.CipherOrder:
		return v == tlsopts.ServerOrder
	case fmt.Stringer:
		return v.String()
	case bool, int:
		return v
	}
	return value.String()
}

// wordsOf are the words that the code takes for a key, as its refusal of
// another word lists them. Each is tried.
func wordsOf(t *testing.T, path string) []any {
	t.Helper()
	refusal := faultOf(path, "no-such-word")
	_, list, found := strings.Cut(refusal, ": want ")
	if !found {
		t.Fatalf("%s: %q lists no words", path, refusal)
	}
	list = strings.ReplaceAll(strings.TrimSuffix(list, " or a list of names"), " or ", ", ")
	var words []any
	for word := range strings.SplitSeq(list, ", ") {
		if refusal := faultOf(path, word); strings.Contains(refusal, strconv.Quote(word)+" is not") {
			t.Errorf("%s: %s is listed and refused: %s", path, word, refusal)
		}
		words = append(words, word)
	}
	return words
}

// rangeOf is the range of a number, as the refusal of -1 tells it. Both its
// ends are tried, and what is beyond them.
func rangeOf(t *testing.T, path string) (lowest, highest int) {
	t.Helper()
	refusal := faultOf(path, -1)
	match := regexp.MustCompile(`out of range: want (\d+) to (\d+)`).FindStringSubmatch(refusal)
	if match == nil {
		t.Fatalf("%s: %q tells no range", path, refusal)
	}
	lowest, _ = strconv.Atoi(match[1])
	highest, _ = strconv.Atoi(match[2])
	for number, inside := range map[int]bool{lowest - 1: false, lowest: true, highest: true, highest + 1: false} {
		if refusal := faultOf(path, number); strings.Contains(refusal, "out of range") == inside {
			t.Errorf("%s: %d: %q", path, number, refusal)
		}
	}
	return lowest, highest
}

// faultOf is the first fault for a value of a key that has a text: by itself
// the value.
func faultOf(path string, value any, text ...string) string {
	var err error
	if key, found := strings.CutPrefix(path, "folder."); found {
		doc := document{}
		doc.set(key, value)
		_, err = config.ParseFolder("tls.yaml", doc.text())
	} else {
		doc := newDocument()
		doc.set(path, value)
		_, err = config.Parse("config.yaml", doc.text())
	}
	if err == nil {
		return ""
	}
	text = append(text, fmt.Sprint(value))
	for line := range strings.Lines(err.Error()) {
		if strings.Contains(line, text[0]) {
			return strings.TrimSuffix(line, "\n")
		}
	}
	return ""
}

// isNeeded tells whether a file is refused without the key.
func isNeeded(t *testing.T, path string) bool {
	t.Helper()
	if strings.HasPrefix(path, "folder.") || strings.HasPrefix(path, "listeners[].tls.") {
		return false
	}
	doc := newDocument()
	doc.remove(path)
	_, err := config.Parse("config.yaml", doc.text())
	return err != nil
}

// documentedAs is the row of the documentation that has a key.
func documentedAs(path string) string {
	for _, prefix := range []string{"folder.", "listeners[].tls."} {
		if key, found := strings.CutPrefix(path, prefix); found {
			return "tls." + key
		}
	}
	return path
}

// plain takes the Markdown out of a text.
func plain(text string) string {
	text = regexp.MustCompile(`\[([^\]]+)\]\([^)]+\)`).ReplaceAllString(text, "$1")
	return strings.ReplaceAll(text, "`", "")
}

// document is a configuration that can be changed key by key.
type document object

func newDocument() document {
	return document{
		"certificates": object{"directory": "/certs"},
		"listeners":    []any{object{"name": "a", "address": ":465", "mode": "implicit"}},
		"backends":     object{"mta": object{"addresses": []string{"127.0.0.1:10025"}}},
		"routes":       []any{object{"server_names": []string{"b.example"}}},
	}
}

// holder is the group that has the key of a path, made if need be, and the key.
func (doc document) holder(path string) (group object, key string) {
	steps := strings.Split(strings.ReplaceAll(path, "NAME", "mta"), ".")
	group = object(doc)
	for _, step := range steps[:len(steps)-1] {
		if name, isList := strings.CutSuffix(step, "[]"); isList {
			group = group[name].([]any)[0].(object)
			continue
		}
		if group[step] == nil {
			group[step] = object{}
		}
		group = group[step].(object)
	}
	return group, steps[len(steps)-1]
}

func (doc document) set(path string, value any) {
	group, key := doc.holder(path)
	if lists := []string{"proxy_tlvs", "pins", "trusted"}; slices.Contains(lists, key) {
		if _, isText := value.(json.RawMessage); !isText {
			value = []any{value}
		}
	}
	group[key] = value
}

func (doc document) remove(path string) {
	group, key := doc.holder(path)
	delete(group, key)
}

// text is the document as a file; JSON is YAML.
func (doc document) text() []byte {
	text, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return text
}

func (doc document) parse(t *testing.T) *config.Config {
	t.Helper()
	cfg, err := config.Parse("config.yaml", doc.text())
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
