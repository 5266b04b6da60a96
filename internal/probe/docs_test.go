package probe_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/probe"
)

// TestDocs_Findings: docs/probe.md has exactly the ids that the source gives.
func TestDocs_Findings(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, match := range regexp.MustCompile(`(?:ID: |fault\(|\bf\.ID[^=:\n]*= |\{\d+, )"([a-z_]+)"`).FindAllStringSubmatch(read(t, file), -1) {
			given[match[1]] = true
		}
	}
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (?:fail|warn|note)").FindAllStringSubmatch(read(t, "../../docs/probe.md"), -1) {
		documented[match[1]] = true
	}
	if len(given) < 40 || !reflect.DeepEqual(given, documented) {
		t.Errorf("the source gives %v,\nand docs/probe.md has %v", given, documented)
	}
}

// TestDocs_Fields: docs/probe.md names every field of the JSON.
func TestDocs_Fields(t *testing.T) {
	t.Parallel()
	page := read(t, "../../docs/probe.md")
	for _, field := range fieldsOf(reflect.TypeFor[probe.Report](), nil) {
		if !strings.Contains(page, "`"+field+"`") {
			t.Errorf("docs/probe.md does not name the field %s", field)
		}
	}
}

func fieldsOf(of reflect.Type, known []string) []string {
	for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct || of.PkgPath() == "time" {
		return known
	}
	for i := range of.NumField() {
		field := of.Field(i)
		if name := field.Tag.Get("json"); !slices.Contains(known, name) {
			known = append(known, name)
		}
		known = fieldsOf(field.Type, known)
	}
	return known
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
