package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// The parts of CycloneDX 1.6 that a Go program needs.
type (
	bom struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Serial       string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	component struct {
		Ref      string    `json:"bom-ref"`
		Type     string    `json:"type"`
		Name     string    `json:"name"`
		Version  string    `json:"version"`
		Hashes   []hash    `json:"hashes,omitempty"`
		Licences []licence `json:"licenses"`
		PURL     string    `json:"purl"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	licence struct {
		Expression string `json:"expression"`
	}
	dependency struct {
		Ref string   `json:"ref"`
		On  []string `json:"dependsOn"`
	}
)

// writeSBOM describes a program by what the Go linker noted in it, with the
// licences from the module cache.
func writeSBOM(out io.Writer, root, binary, version string, made time.Time) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(content)
	modules, err := linked(root, setting(info, "GOARCH"))
	if err != nil {
		return err
	}
	licences := make(map[string]string)
	for _, m := range modules {
		if licences[m.path], err = m.licence(); err != nil {
			return err
		}
	}
	main := component{
		Type: "application", Name: "smtp-tlsproxy", Version: version, Licences: []licence{{"Apache-2.0"}},
		PURL: fmt.Sprintf("%s?goos=%s&goarch=%s", purl(info.Main.Path, version), setting(info, "GOOS"), setting(info, "GOARCH")),
	}
	main.Hashes = []hash{{"SHA-256", hex.EncodeToString(digest[:])}}
	main.Ref = main.PURL
	b := bom{
		Format: "CycloneDX", Spec: "1.6", Serial: serial(digest), Version: 1,
		Metadata: metadata{Timestamp: made.Format(time.RFC3339), Component: main},
	}
	needs := dependency{Ref: main.Ref}
	for _, dep := range append(info.Deps, &debug.Module{Path: std, Version: info.GoVersion}) {
		c, err := describe(dep, licences[dep.Path])
		if err != nil {
			return err
		}
		b.Components = append(b.Components, c)
		needs.On = append(needs.On, c.Ref)
	}
	b.Dependencies = []dependency{needs}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(b)
}

func describe(dep *debug.Module, expression string) (component, error) {
	if dep.Replace != nil {
		return component{}, fmt.Errorf("%s is replaced by %s: the bill would name the wrong code", dep.Path, dep.Replace.Path)
	}
	if expression == "" {
		return component{}, fmt.Errorf("%s is in the program, but not in the list of its packages: was it built from other sources?", dep.Path)
	}
	c := component{Type: "library", Name: dep.Path, Version: dep.Version, Licences: []licence{{expression}}}
	c.PURL = purl(dep.Path, strings.TrimPrefix(dep.Version, "go"))
	c.Ref = c.PURL
	// The go.sum hash of a module, which the standard library has not.
	if sum, found := strings.CutPrefix(dep.Sum, "h1:"); found {
		digest, err := base64.StdEncoding.DecodeString(sum)
		if err != nil {
			return c, fmt.Errorf("the hash of %s: %w", dep.Path, err)
		}
		c.Hashes = []hash{{"SHA-256", hex.EncodeToString(digest)}}
	}
	return c, nil
}

// purl is a package URL, by which vulnerability databases know a module.
func purl(path, version string) string {
	return "pkg:golang/" + path + "@" + url.PathEscape(version)
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// serial is a UUID (RFC 9562 version 8) of the program's hash, so that it is the
// same each time the same program is described.
func serial(digest [sha256.Size]byte) string {
	id := digest[:16]
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16])
}
