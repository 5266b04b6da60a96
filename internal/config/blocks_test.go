package config_test

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/smtp-tlsproxy/smtp-tlsproxy/internal/config"
)

// block is a fenced block of YAML in a page.
type block struct {
	page string
	line int // of its first line
	text string
}

var (
	fence     = regexp.MustCompile("^( *)```(\\w*)\\s*$")
	topKey    = regexp.MustCompile(`(?m)^([A-Za-z_]+):`)
	namedIn   = regexp.MustCompile(`\bbackend: *([a-z0-9_-]+)`)
	indented  = regexp.MustCompile(`(?m)^  ([a-z0-9_-]+):`)
	inBraces  = regexp.MustCompile(`(?m)^backends: *{ *([a-z0-9_-]+):`)
	nextGroup = regexp.MustCompile(`(?m)^[a-z]`)
)

// blocksOf finds the YAML in every page.
func blocksOf(t *testing.T) []block {
	t.Helper()
	const top = "../.."
	var found []block
	err := filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != top && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if filepath.Ext(name) != ".md" {
			return nil
		}
		found = append(found, blocksIn(name, string(read(t, name)))...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func blocksIn(page, text string) []block {
	var found []block
	var open *block
	margin := ""
	for i, line := range strings.Split(text, "\n") {
		match := fence.FindStringSubmatch(line)
		switch {
		case match != nil && open == nil:
			open, margin = &block{page: page, line: i + 2}, match[1]
			if match[2] != "yaml" {
				open.page = ""
			}
		case match != nil:
			if open.page != "" {
				found = append(found, *open)
			}
			open = nil
		case open != nil:
			open.text += strings.TrimPrefix(line, margin) + "\n"
		}
	}
	return found
}

// keysIn are the keys of a group's struct.
func keysIn(group reflect.Type) (keys []string) {
	for i := range group.NumField() {
		if key := group.Field(i).Tag.Get("yaml"); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// completed gives a part of a configuration the groups that it needs besides.
func completed(text string) string {
	has := func(group string) bool { return regexp.MustCompile(`(?m)^` + group + `:`).MatchString(text) }
	var backends []string
	if _, after, found := strings.Cut("\n"+text, "\nbackends:\n"); found {
		if end := nextGroup.FindStringIndex(after); end != nil {
			after = after[:end[0]]
		}
		for _, match := range indented.FindAllStringSubmatch(after, -1) {
			backends = append(backends, match[1])
		}
	} else if match := inBraces.FindStringSubmatch(text); match != nil {
		backends = append(backends, match[1])
	}
	more := ""
	if !has("certificates") {
		more += "certificates: {directory: /certs}\n"
	}
	if !has("backends") {
		for _, match := range namedIn.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(backends, match[1]) {
				backends = append(backends, match[1])
			}
		}
		if len(backends) == 0 {
			backends = []string{"mta"}
		}
		more += "backends:\n"
		for _, name := range backends {
			more += "  " + name + ": {addresses: [\"127.0.0.1:10025\"]}\n"
		}
	}
	if !has("listeners") {
		more += "listeners:\n"
		for i, name := range backends {
			more += fmt.Sprintf("  - {name: l%d, address: \"127.0.0.1:%d\", mode: implicit, backend: %s}\n", i, 20000+i, name)
		}
	}
	return text + more
}

// TestConfigurationsInPagesLoad: what a page shows works when it is pasted. A
// block with a key of the configuration is one, or a part of one; a block with
// a key of a folder's tls.yaml is that. The chart's values, which have the
// configuration as text, are rendered by deploy/verify.
func TestConfigurationsInPagesLoad(t *testing.T) {
	t.Parallel()
	whole, folder := keysIn(reflect.TypeFor[config.Config]()), keysIn(reflect.TypeFor[config.Folder]())
	loaded := 0
	for _, b := range blocksOf(t) {
		if strings.Contains(b.text, "\nconfig: |\n") {
			continue
		}
		var isWhole, isFolder bool
		for _, match := range topKey.FindAllStringSubmatch(b.text, -1) {
			isWhole = isWhole || slices.Contains(whole, match[1])
			isFolder = isFolder || slices.Contains(folder, match[1])
		}
		name := fmt.Sprintf("%s from line %d", b.page, b.line)
		var err error
		switch {
		case isWhole:
			_, err = config.Parse(name, []byte(completed(b.text)))
		case isFolder:
			_, err = config.ParseFolder(name, []byte(b.text))
		default:
			continue
		}
		loaded++
		if err != nil {
			t.Errorf("%v\nin:\n%s", err, b.text)
		}
	}
	if loaded < 3 {
		t.Errorf("found %d configurations only", loaded)
	}
}

func TestPartsOfConfigurationsAreCompleted(t *testing.T) {
	t.Parallel()
	for text, valid := range map[string]bool{
		"tls: {profile: modern}\n":  true,
		"tls: {profile: moderne}\n": false,
		"listeners:\n  - {name: a, address: \":1\", mode: implicit, backend: x}\n": true,
		"backends:\n  x:\n    addresses: [\"h:1\"]\n  y: {addresses: [\"h:1\"]}\n": true,
		"backends: {x: {addresses: [\"h:1\"]}}\nlog: {level: debug}\n":             true,
		"backends: {x: {adresses: [\"h:1\"]}}\n":                                   false,
		"routes:\n  - {server_names: [a.example], backend: customer}\n":            true,
	} {
		if _, err := config.Parse("part", []byte(completed(text))); (err == nil) != valid {
			t.Errorf("%q: %v, want valid %v", text, err, valid)
		}
	}
}
