package config_test

import (
	"encoding"
	"encoding/json"
	"fmt"
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

const (
	exampleFile = "../../config.example.yaml"
	docsFile    = "../../docs/configuration.md"
)

// keysOf gives every key below a group, in the notation of the documentation.
// The tls group of a listener is one key: it is documented once.
func keysOf(group reflect.Type, prefix string) []string {
	var keys []string
	for i := range group.NumField() {
		field := group.Field(i)
		if !field.IsExported() {
			continue
		}
		path := prefix + field.Tag.Get("yaml")
		switch {
		case path == "listeners[].tls":
			keys = append(keys, path)
		case field.Type.Kind() == reflect.Struct:
			keys = append(keys, keysOf(field.Type, path+".")...)
		case field.Type.Kind() == reflect.Slice && isGroup(field.Type.Elem()):
			keys = append(keys, keysOf(field.Type.Elem(), path+"[].")...)
		case field.Type.Kind() == reflect.Map:
			keys = append(keys, keysOf(field.Type.Elem().Elem(), path+".NAME.")...)
		default:
			keys = append(keys, path)
		}
	}
	return keys
}

// isGroup tells a type with keys from one that is written as text.
func isGroup(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func allKeys() []string { return keysOf(reflect.TypeFor[config.Config](), "") }

// documentedRow is what a table of the documentation says of a key.
type documentedRow struct{ path, standard, meaning string }

var tableRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+?) \\| (.+) \\|$")

func documentedRows(t testing.TB) map[string]documentedRow {
	t.Helper()
	rows := make(map[string]documentedRow)
	for _, match := range tableRow.FindAllStringSubmatch(string(read(t, docsFile)), -1) {
		rows[match[1]] = documentedRow{match[1], match[2], match[3]}
	}
	return rows
}

func TestDocumentationHasExactlyTheKeysThatAreRead(t *testing.T) {
	t.Parallel()
	var documented []string
	for _, match := range tableRow.FindAllStringSubmatch(string(read(t, docsFile)), -1) {
		documented = append(documented, match[1])
	}
	if want := allKeys(); !slices.Equal(documented, want) {
		t.Errorf("the tables have, in order:\n%s\nwant:\n%s", strings.Join(documented, "\n"), strings.Join(want, "\n"))
	}
}

// fieldAt is the value that a file has for a key.
func fieldAt(cfg *config.Config, path string) reflect.Value {
	value := reflect.ValueOf(cfg).Elem()
	for step := range strings.SplitSeq(path, ".") {
		if step == "NAME" {
			value = value.MapIndex(reflect.ValueOf("mta")).Elem()
			continue
		}
		key, isList := strings.CutSuffix(step, "[]")
		value = value.FieldByName(fieldOf(value.Type(), key))
		if isList {
			value = value.Index(0)
		}
	}
	return value
}

func fieldOf(group reflect.Type, key string) string {
	for i := range group.NumField() {
		if group.Field(i).Tag.Get("yaml") == key {
			return group.Field(i).Name
		}
	}
	return ""
}

// A type is told in the same words for every key of it.
func TestDocumentationTellsTypeAndValues(t *testing.T) {
	t.Parallel()
	d := describer{t: t}
	cfg := newDocument().parse(t)
	for path, row := range documentedRows(t) {
		kind := fieldAt(cfg, path).Type()
		var words []string
		switch {
		case kind == reflect.TypeFor[time.Duration]():
			words = []string{"Duration"}
		case kind.Kind() == reflect.Bool, kind == reflect.TypeFor[tlsopts.CipherOrder]():
			words = []string{"Switch"}
		case kind == reflect.TypeFor[int]():
			lowest, highest := rangeOf(t, path)
			words = []string{fmt.Sprintf("%d to %d", lowest, highest)}
		case kind.Kind() == reflect.Slice:
			words = []string{"list"}
		case isGroup(kind):
		default:
			if list, found := d.text(kind, path)["enum"]; found {
				for _, word := range list.([]any) {
					words = append(words, "`"+word.(string)+"`")
				}
			}
		}
		for _, word := range words {
			if !strings.Contains(row.meaning, word) && !(strings.HasPrefix(row.standard, word) && word[0] == '`') {
				t.Errorf("%s: its row does not say %q", path, word)
			}
		}
	}
}

func TestShortestFileOfTheDocumentationLoads(t *testing.T) {
	t.Parallel()
	_, rest, _ := strings.Cut(string(read(t, docsFile)), "```yaml\n")
	file, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("no YAML in the documentation")
	}
	if _, err := config.Parse(docsFile, []byte(file)); err != nil {
		t.Error(err)
	}
}

// keyLine is a line of the example with a key, written or in a comment.
var keyLine = regexp.MustCompile(`^( *)(?:# ( *))?(- )?([a-z_]+):`)

// exampleKeys are the keys of the example, those in comments included. It is
// laid out in blocks, so the indentation tells where each belongs.
func exampleKeys(t *testing.T) []string {
	t.Helper()
	type level struct {
		indent int
		path   string
	}
	var levels []level
	var keys []string
	for line := range strings.Lines(string(read(t, exampleFile))) {
		match := keyLine.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		indent := len(match[1]) + len(match[2]) + len(match[3])
		for len(levels) > 0 && levels[len(levels)-1].indent >= indent {
			levels = levels[:len(levels)-1]
		}
		path := match[4]
		if len(levels) > 0 {
			path = levels[len(levels)-1].path + "." + path
		}
		path = strings.Replace(path, "backends.mta", "backends.NAME", 1)
		levels = append(levels, level{indent, path})
		keys = append(keys, path)
	}
	return keys
}

func TestExampleHasEveryKey(t *testing.T) {
	t.Parallel()
	keys := exampleKeys(t)
	for _, path := range allKeys() {
		if !slices.Contains(keys, strings.ReplaceAll(path, "[]", "")) {
			t.Errorf("no key %s", path)
		}
	}
}

func TestExampleIsTheDefaults(t *testing.T) {
	t.Parallel()
	got := load(t, exampleFile)
	want := wantMinimal()
	want.Listeners = append(want.Listeners, config.Listener{
		Name: "submission", Address: ":587", Mode: config.ModeSTARTTLS, STARTTLS: config.STARTTLSRequired,
		Backend: "mta", TLS: want.TLS,
	}, config.Listener{
		Name: "mx", Address: ":25", Mode: config.ModeSTARTTLS, STARTTLS: config.STARTTLSOptional,
		Backend: "mta", TLS: want.TLS,
	})
	expect(t, got, want)
}

// A default of the documentation is what a file would have to say: the test
// writes each into one and looks that nothing changes. What is said in words is
// a value that is not there.
func TestDocumentedDefaultsAreTheDefaults(t *testing.T) {
	t.Parallel()
	const required, group = "required", "the `tls` group"
	quoted := regexp.MustCompile("^`([^`]+)`$")
	for path, row := range documentedRows(t) {
		doc := newDocument()
		if strings.HasPrefix(path, "listeners[].") {
			doc.set("listeners[].mode", "starttls") // has all the keys
		}
		if strings.HasPrefix(path, "tls.session_tickets.") && path != "tls.session_tickets.enabled" {
			doc.set("tls.session_tickets.enabled", true) // without it they are refused
		}
		standard := doc.parse(t)
		got := fieldAt(standard, path)
		if needed := isNeeded(t, path); needed != (row.standard == required) {
			t.Errorf("%s: required is %v, and the documented default %q", path, needed, row.standard)
			continue
		}
		match := quoted.FindStringSubmatch(row.standard)
		switch {
		case row.standard == required || row.standard == group:
		case path == "listeners[].starttls": // depends on the port
			if row.standard != "`required`; `optional` on port 25" || got.String() != "required" {
				t.Errorf("%s: documented is %q, and it is %q", path, row.standard, got)
			}
		case row.standard == "the only backend":
			if got.String() != "mta" {
				t.Errorf("%s: %q", path, got)
			}
		case match == nil:
			if !got.IsZero() {
				t.Errorf("%s: documented is %q, and it is %v", path, row.standard, got)
			}
		default:
			doc.set(path, json.RawMessage(asJSON(match[1])))
			expect(t, doc.parse(t), standard)
			if got.IsZero() && match[1] != "false" && path != "log.level" { // whose info is 0
				t.Errorf("%s: documented is %q, and it is not set", path, row.standard)
			}
		}
	}
}

// asJSON writes a default as a document can hold it.
func asJSON(text string) string {
	if list, isList := strings.CutPrefix(text, "["); isList {
		return `["` + strings.ReplaceAll(strings.TrimSuffix(list, "]"), ", ", `", "`) + `"]`
	}
	if _, err := strconv.Atoi(text); err == nil || text == "true" || text == "false" {
		return text
	}
	return strconv.Quote(text)
}
