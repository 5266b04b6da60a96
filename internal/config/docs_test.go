package config_test

import (
	"encoding"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
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

func TestDocumentationHasExactlyTheKeysThatAreRead(t *testing.T) {
	t.Parallel()
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .+ \\| .+ \\|$")
	var documented []string
	for _, match := range row.FindAllStringSubmatch(string(read(t, docsFile)), -1) {
		documented = append(documented, match[1])
	}
	if want := allKeys(); !slices.Equal(documented, want) {
		t.Errorf("the tables have, in order:\n%s\nwant:\n%s", strings.Join(documented, "\n"), strings.Join(want, "\n"))
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

func TestExampleHasEveryKey(t *testing.T) {
	t.Parallel()
	example := read(t, exampleFile)
	for _, path := range allKeys() {
		key := path[strings.LastIndexByte(path, '.')+1:]
		if !regexp.MustCompile(`(?m)^ +(- |# +(- )?)?` + key + `:`).Match(example) {
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

// A default of the documentation is what a file would have to say; the test
// writes each into one and looks that nothing changes.
func TestDocumentedDefaultsAreTheDefaults(t *testing.T) {
	t.Parallel()
	row := regexp.MustCompile("(?m)^\\| `(tls|limits|timeouts|log|admin|process)\\.([a-z_]+)` \\| `([^`]+)` \\|")
	groups := make(map[string]string)
	for _, match := range row.FindAllStringSubmatch(string(read(t, docsFile)), -1) {
		groups[match[1]] += "  " + match[2] + ": " + match[3] + "\n"
	}
	text := string(read(t, "testdata/good/minimal.yaml"))
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		text += group + ":\n" + groups[group]
	}
	if len(groups) != 6 {
		t.Fatalf("defaults of %d groups, want 6:\n%s", len(groups), text)
	}
	cfg, err := config.Parse("defaults.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, text)
	}
	expect(t, cfg, wantMinimal())
}
