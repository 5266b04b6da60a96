// Package schema_test holds docs/*.schema.json against files with a validator,
// as editors do. That the schemas are what the code says is held in
// internal/config, which makes them. It is in this module so that the validator
// never reaches the product's go.sum.
package schema_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

const top = "../../"

func compile(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(top, "docs", file))
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// refusal is what the schema says against a YAML text.
func refusal(t *testing.T, schema *jsonschema.Schema, text []byte) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		return err
	}
	return schema.Validate(value)
}

func files(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(top, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("no file matches %s (%v)", pattern, err)
	}
	return found
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestWhatTheProgramTakesIsValid(t *testing.T) {
	schema := compile(t, "config.schema.json")
	for _, pattern := range []string{"config.example.yaml", "internal/config/testdata/good/*.yaml", "deploy/*/config.yaml"} {
		for _, file := range files(t, pattern) {
			if err := refusal(t, schema, read(t, file)); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

// beyond are faults that no schema sees: between two keys, or within a text.
var beyond = map[string]string{
	"anchors-aliases-tags.yaml":        "YAML itself",
	"second-document-broken.yaml":      "YAML itself",
	"two-documents.yaml":               "YAML itself",
	"backend-addresses.yaml":           "within a text",
	"backend-none.yaml":                "a name that has another meaning",
	"backend-of-listener-single.yaml":  "between keys",
	"backend-of-listener.yaml":         "between keys",
	"backend-tls.yaml":                 "between keys",
	"backend-unused.yaml":              "between keys",
	"certificates-default.yaml":        "within a text",
	"client-info.yaml":                 "between keys",
	"hostname.yaml":                    "within a text",
	"implicit-with-starttls-keys.yaml": "between keys",
	"listen-addresses-taken.yaml":      "between keys",
	"listen-addresses.yaml":            "within a text",
	"port-25.yaml":                     "between keys",
	"proxy-v1.yaml":                    "between keys",
	"systemd-addresses.yaml":           "within a text",
	"versions-merged.yaml":             "between keys",
	"versions.yaml":                    "between keys",
}

func TestWhatTheProgramRefusesIsNotValid(t *testing.T) {
	schema := compile(t, "config.schema.json")
	for _, file := range files(t, "internal/config/testdata/bad/*.yaml") {
		err := refusal(t, schema, read(t, file))
		if why, known := beyond[filepath.Base(file)]; (err == nil) != known {
			t.Errorf("%s: the schema says %v; listed as beyond it: %q", file, err, why)
		}
	}
}

var key = regexp.MustCompile(`(?m)^( +(?:- )?)([a-z_]+)(: .*)$`)

// TestNoOtherKey: each key of the file that has all of them is misspelt.
func TestNoOtherKey(t *testing.T) {
	schema := compile(t, "config.schema.json")
	text := read(t, filepath.Join(top, "internal/config/testdata/good/full.yaml"))
	places := key.FindAllSubmatchIndex(text, -1)
	if len(places) < 80 {
		t.Fatalf("found %d keys only", len(places))
	}
	for _, place := range places {
		at := place[5] // the end of the key
		mistake := bytes.Join([][]byte{text[:at], []byte("x"), text[at:]}, nil)
		if err := refusal(t, schema, mistake); err == nil {
			t.Errorf("%sx is taken", text[place[4]:at])
		}
	}
}

func TestFolder(t *testing.T) {
	schema := compile(t, "folder.schema.json")
	for text, valid := range map[string]bool{
		"":                            true,
		"min_version: TLSv1.3":        true,
		"min_version: TLSv1.4":        false,
		"max_versoin: TLSv1.3":        false,
		"unknown_sni: reject":         false, // is for listeners
		"alpn: [smtp, lmtp]":          true,
		"honor_cipher_order: true":    true,
		"passphrase_file: /secrets/p": true,
		"client_auth: {mode: require, pins: [\"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"]}": true,
		"client_auth: {mode: request, ca: x.pem}":                                                       false, // is ca.pem
		"client_auth: {pins: [sha256/x]}":                                                               false,
	} {
		if err := refusal(t, schema, []byte(text)); (err == nil) != valid {
			t.Errorf("%q: %v, want valid %v", text, err, valid)
		}
	}
}

// TestExampleNamesItsSchema: editors find the schema by the first lines.
func TestExampleNamesItsSchema(t *testing.T) {
	for _, line := range strings.Split(string(read(t, filepath.Join(top, "config.example.yaml"))), "\n")[:3] {
		if line == "# yaml-language-server: $schema=docs/config.schema.json" {
			return
		}
	}
	t.Error("config.example.yaml does not name docs/config.schema.json in its first lines")
}
